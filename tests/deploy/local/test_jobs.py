"""The examples of a batch transform and of a training job, with S3 by moto and the real programs."""

from __future__ import annotations

import gzip
import io
import json
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.local.support import OURS, Local, ended
from tests.deploy.support import IMAGE, written
from tests.support.eventually import eventually

EXAMPLES = Path(__file__).parents[3] / "examples" / "deploy"
TRANSFORM = (EXAMPLES / "transform.yaml").read_text()
TRAIN = (EXAMPLES / "train-job.yaml").read_text()
# The stand-in answers what it got, one line for a body.
STAND_IN = TRANSFORM.replace(IMAGE, OURS).replace("models/food.tar.gz", "models/food-1.tar.gz")


def run(folder: Path, text: str, s3_url: str) -> str:
    done = ended(written(folder, text, "job.yaml"), AWS_ENDPOINT_URL=s3_url)
    assert done.returncode == 0, done.stderr
    assert "This is a rehearsal" in done.stderr
    assert [*(folder / "tmp").iterdir()] == []
    return done.stdout


def put(s3: Any, key: str, body: bytes) -> None:
    s3.put_object(Bucket="my-bucket", Key=key, Body=body)


def lines(s3: Any, key: str) -> list[Any]:
    body = s3.get_object(Bucket="my-bucket", Key=key)["Body"].read()
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.e2e
def test_a_transform_answers_each_line_of_each_object(tmp_path: Path, s3_url: str, s3: Any) -> None:
    users = [f"user {number}" for number in range(5)]
    for name in ("a.jsonl", "more/b.jsonl"):
        put(s3, f"users/{name}", "\n".join(json.dumps({"user_id": user, "k": 2}) for user in users).encode())
    shown = run(tmp_path, TRANSFORM.replace("join_input: false", "join_input: true"), s3_url)
    assert shown.endswith("s3://my-bucket/recommended\n")
    assert "2 objects, 2 requests, 0 × 4xx, 0 × 5xx" in shown
    for name in ("a.jsonl.out", "more/b.jsonl.out"):
        answers = lines(s3, f"recommended/{name}")
        assert [answer["user_id"] for answer in answers] == users
        assert all(len(answer["SageMakerOutput"]["recommendations"]) == 2 for answer in answers)


def test_a_transform_cuts_its_input_as_the_job_says(tmp_path: Path, s3_url: str, s3: Any) -> None:
    put(s3, "single/a.gz", gzip.compress(b'{"a": 1}\n{"a": 2}\n'))
    single = STAND_IN.replace("my-bucket/users/", "my-bucket/single/").replace("multi_record ", "single_record ")
    run(tmp_path, single.replace("split: line", "split: line\n  compression: gzip"), s3_url)
    answers = lines(s3, "recommended/a.gz.out")
    assert [answer["body"] for answer in answers] == ['{"a": 1}\n', '{"a": 2}\n']
    assert answers[0]["headers"]["content-type"] == answers[0]["headers"]["accept"] == "application/jsonlines"
    told = answers[0]["environment"]
    assert (told["SAGEMAKER_BATCH"], told["SAGEMAKER_BATCH_STRATEGY"]) == ("true", "SINGLE_RECORD")
    assert (told["SAGEMAKER_MAX_PAYLOAD_IN_MB"], told["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"]) == ("20", "4")


def test_a_transform_filters_and_joins(tmp_path: Path, s3_url: str, s3: Any) -> None:
    put(s3, "filtered/a.jsonl", b'{"id": 7, "ask": {"x": 1}}\n{"id": 8, "ask": {"x": 2}}\n')
    filters = "input_filter: $.ask\n  output_filter: $['id', 'SageMakerOutput']\n  join_input: true"
    text = STAND_IN.replace("my-bucket/users/", "my-bucket/filtered/").replace("multi_record ", "single_record ")
    run(tmp_path, text.replace("join_input: false", filters), s3_url)
    answers = lines(s3, "recommended/a.jsonl.out")
    assert [answer["id"] for answer in answers] == [7, 8]
    assert [answer["SageMakerOutput"]["body"] for answer in answers] == ['{"x": 1}\n', '{"x": 2}\n']
    assert all(answer.keys() == {"id", "SageMakerOutput"} for answer in answers)


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("users/", "nothing/", 2, "there is no object under s3://my-bucket/nothing/"),
        ("users/", "large/", 2, "record 1 has 20,971,521 bytes; raise max_payload_mb, which is 20"),
        ("users/", "failing/", 1, "everybody failed: Received client error (400) from primary"),
        ("split: line", "split: line\n  compression: gzip", 2, "is no gzip file"),
        ("join_input: false ", 'input_filter: "$.a" ', 2, "input_filter $.a selects nothing of the record {"),
        ("join_input: false ", 'output_filter: "$.a" ', 2, "output_filter $.a selects nothing of the record"),
    ],
)
def test_a_transform_that_cannot_be_done(
    old: str, new: str, code: int, words: str, tmp_path: Path, s3_url: str, s3: Any
) -> None:
    put(s3, "users/any.jsonl", b"{}\n")
    put(s3, "large/any.jsonl", b"x" * (20 * 2**20) + b"\n")
    put(s3, "failing/any.jsonl", b'{"make": {"status": 400}}\n')
    done = ended(written(tmp_path, STAND_IN.replace(old, new), "job.yaml"), AWS_ENDPOINT_URL=s3_url)
    assert done.returncode == code, done.stderr
    assert words in done.stderr


@pytest.mark.e2e
def test_a_training_job_leaves_a_model_that_can_be_served(
    tmp_path: Path, s3_url: str, s3: Any, food_csv: Path, food_items_file: Path
) -> None:
    put(s3, "clicks/day/food.csv", food_csv.read_bytes())
    put(s3, "items/items.parquet", food_items_file.read_bytes())
    quick = TRAIN.replace("model: neumf, num_factors: 32", "model: gmf, num_factors: 4, epochs: 1")
    model, output = run(tmp_path, quick, s3_url).split()[-2:]
    assert model.startswith("s3://my-bucket/runs/food-")
    bucket, _, key = model.removeprefix("s3://").partition("/")
    packed = io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    with tarfile.open(fileobj=packed) as archive:
        assert "ncf_food_model/config.pbtxt" in archive.getnames()
    assert output.endswith("/output/output.tar.gz")
    assert s3.list_objects_v2(Bucket="my-bucket", Prefix="checkpoints/food-").get("Contents")


@pytest.mark.e2e
def test_an_interrupted_training_job_goes_on_from_its_checkpoint(
    tmp_path: Path, s3_url: str, s3: Any, food_csv: Path
) -> None:
    put(s3, "one/food.csv", food_csv.read_bytes())
    text = "".join(line for line in TRAIN.splitlines(keepends=True) if "items:" not in line)
    text = text.replace("clicks/", "one/").replace("num_factors: 32", "num_factors: 8, epochs: 6")
    with Local(written(tmp_path, text, "job.yaml"), AWS_ENDPOINT_URL=s3_url) as local:
        checkpoints = "ncf-deploy-local-*/ml/checkpoints/*.ckpt"
        eventually(lambda: [*(tmp_path / "tmp").glob(checkpoints)], 120, local.log.read_text)
        local.process.send_signal(signal.SIGHUP)
        shown, _ = local.process.communicate(timeout=300)
    log = local.log.read_text() + shown
    assert local.process.returncode == 0, log
    assert "gets SIGTERM, and SIGKILL 120 s later" in log
    assert "/output/model.tar.gz" in shown


def test_a_training_job_that_fails_says_why(tmp_path: Path, s3_url: str, s3: Any, food_csv: Path) -> None:
    put(s3, "clicks/food.csv", food_csv.read_bytes())
    text = "".join(line for line in TRAIN.splitlines(keepends=True) if "items:" not in line)
    for old, new, code, words in (
        ("num_factors: 32", "num_factors: none", 2, "failed with exit code 2: hyperparameter 'num_factors'"),
        ("s3://my-bucket/clicks/", "s3://my-bucket/nothing/", 2, "channel train: there is no object under"),
    ):
        done = ended(written(tmp_path, text.replace(old, new), "job.yaml"), AWS_ENDPOINT_URL=s3_url)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
