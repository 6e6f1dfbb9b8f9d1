"""The `train` verb under SageMaker's training contract (CONTRACT C97-C106): a job as a whole, and how it fails."""

from __future__ import annotations

import errno
import json
import os
import re
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ncf.export.repository import free_version, part_names
from ncf.job.job import TrainingJob
from serve.models import preflight
from serve.models.repository import Repository
from serve.recommend.recommender import Recommender
from tests.support.jobs import QUICK, ROWS, Job, small_job, table

METRICS = {"Loss": r"Loss=(.*?);", "HR": r"HR=(.*?);", "NDCG": r"NDCG=(.*?);"}  # the workshop's
OWN = {
    r"epoch +\d+ .*NDCG=(.*?);": 2, r"epoch +\d+:? .*NDCG=(.*?);": 3, "best epoch .*NDCG=(.*?);": 1,
    "test: .*NDCG=(.*?);": 1,
}  # fmt: skip
GUIDE = (Path(__file__).parents[3] / "docs" / "training-jobs.md").read_text()


@pytest.mark.core
def test_c097_to_c100_and_c104_to_c106_a_job_trains_and_leaves_a_repository(tmp_path: Path) -> None:
    """As a process, with nothing under /opt/ml; the archive of what it leaves is a repository elsewhere, too."""
    job = small_job(tmp_path / "ml", model_name="trained", sagemaker_program="x")
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    job.write("inputdataconfig.json", {"train": channel, "items": channel})
    job.write("resourceconfig.json", {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"})
    job.put("items", "items.csv", "item_id,title\n" + "".join(f"i{item},Item {item}\n" for item in range(40)))
    process = job.start(TRAINING_JOB_NAME="nightly-7")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert said.startswith("INFO: training job nightly-7\n")
    assert not (job.base / "output" / "failure").exists()
    # The curve, once more the best epoch's, and the held-out items last: that is the job's final metric.
    found = {name: [float(value) for value in re.findall(pattern, said)] for name, pattern in METRICS.items()}
    assert [len(values) for values in found.values()] == [3, 4, 4]
    for pattern, times in OWN.items():
        assert pattern in GUIDE
        assert len(re.findall(pattern, said)) == times, pattern
    report = json.loads((job.base / "output" / "data" / "evaluation.json").read_text())
    final = [round(report["model"]["sampled"][name], 4) for name in ("HR@10", "NDCG@10")]
    assert final == [found["HR"][-1], found["NDCG"][-1]]
    assert re.search(r"INFO: test: HR=.*; NDCG=.*; \(30 held-out items of 30 users\)", said)
    assert not (job.run_directory / "checkpoints").exists()

    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(job.base / "model", ".")
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        archive.extractall(tmp_path / "elsewhere", filter="data")
    check_repository(tmp_path / "elsewhere", "trained")


def check_repository(repository: Path, name: str) -> None:
    """What `serve` looks for is there, and the next export would be version 2."""
    names = (name, f"{name}_query")
    assert sorted(path.name for path in repository.iterdir()) == sorted(names)
    assert free_version(repository, part_names(name), None) == 2
    for part in names:
        config = text_format.Parse((repository / part / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        assert config.platform == "pytorch_libtorch"
        assert preflight.problem(repository / part, None) is None
        torch.jit.load(str(repository / part / "1" / "model.pt"))
    assert Repository.scan(repository).to_load(None) == tuple(sorted(names))
    assert list(Recommender.open(repository, name, 1, dict.fromkeys(names, 1), names).columns) == ["title"]


def test_c104_the_same_job_has_the_same_metrics(tmp_path: Path) -> None:
    found: list[Any] = []
    for number in range(2):
        job = small_job(tmp_path / str(number))
        assert TrainingJob(job.base).run() == 0
        lines = [json.loads(line) for line in (job.run_directory / "metrics.jsonl").read_text().splitlines()]
        figures = [(line["loss"], line["hit_rate_at_10"], line["ndcg_at_10"]) for line in lines]
        found.append((figures, json.loads((job.base / "output" / "data" / "evaluation.json").read_text())["model"]))
    assert found[0] == found[1]


def test_c105_the_environment_says_where_the_model_goes(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml")
    own = {"SM_MODEL_DIR": str(tmp_path / "m"), "TRAINING_JOB_NAME": "x"}
    assert TrainingJob(job.base, own, ["--epochs", "1", "--model_name=named"]).run() == 0
    assert (tmp_path / "m" / "named" / "1" / "model.pt").exists()
    assert not (job.base / "model").exists()
    assert len((job.run_directory / "metrics.jsonl").read_text().splitlines()) == 1


def test_the_time_a_job_has(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml", epochs="100000", patience="100000", max_time="1s")
    (job.base / "output" / "tensorboard").mkdir(parents=True)
    assert TrainingJob(job.base).run() == 0
    assert json.loads((job.run_directory / "result.json").read_text())["stopped"] == "out of time"
    assert (job.base / "output" / "data" / "evaluation.json").exists()
    assert list((job.base / "output" / "tensorboard").iterdir())


@pytest.mark.parametrize(
    ("values", "channel", "message"),
    [
        ({"epoch": "2"}, "train", "hyperparameter 'epoch' is unknown; did you mean 'epochs'?"),
        ({"k": "0"}, "train", "k is 0"),
        ({}, "other", "no channel named train or training"),
    ],
)
def test_c101_a_failure_says_why(tmp_path: Path, values: dict[str, str], channel: str, message: str) -> None:
    job = Job(tmp_path / "ml", **values)
    job.put(channel, "ratings.csv", table(ROWS))
    assert TrainingJob(job.base).run() == 2
    assert message in job.failure
    assert not (job.base / "model").exists()


@pytest.mark.parametrize(
    ("channel", "text", "message"),
    [
        ("train", "user_id,item_id\n", "no rows"),
        ("items", "item_id,title\ni1,One\ni1,Two\n", "has item 'i1' in more than one row"),
        ("items", "title\nOne\n", "has no column 'item_id'"),
    ],
)
def test_c101_bad_data_says_why_before_anything_is_trained(
    tmp_path: Path, channel: str, text: str, message: str
) -> None:
    job = small_job(tmp_path / "ml", epochs="1000000", patience="1000000")
    job.put(channel, "ratings.csv", text)
    assert TrainingJob(job.base).run() == 2
    assert message in job.failure


def test_c101_items_of_another_catalogue_cost_their_columns_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = small_job(tmp_path / "ml")
    job.put("items", "items.csv", "item_id,title\nother,One\n")
    assert TrainingJob(job.base).run() == 0
    assert "the model is written without the metadata of items" in caplog.text
    assert (job.base / "model" / "ncf_model" / "1" / "model.pt").exists()


def test_c101_a_model_that_cannot_be_evaluated_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("ncf.training.run.compare", fail)
    job = small_job(tmp_path / "ml")
    assert TrainingJob(job.base).run() == 0
    assert "the held-out items were not evaluated; the model is written" in caplog.text
    assert (job.base / "model" / "ncf_model" / "1" / "model.pt").exists()


def test_c101_the_failure_file_is_text_of_1024_bytes(tmp_path: Path) -> None:
    job = Job(tmp_path / "ml", **{"é" * 1000: "x"})
    job.put("train", "ratings.csv", table(ROWS))
    assert TrainingJob(job.base).run() == 2
    content = (job.base / "output" / "failure").read_bytes()
    assert 1000 < len(content) <= 1024
    assert content.decode().startswith("hyperparameter 'ééé")


def test_c101_an_unforeseen_failure_says_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("ncf.training.run.train_run", fail)
    job = small_job(tmp_path / "ml")
    with pytest.raises(ZeroDivisionError):
        TrainingJob(job.base).run()
    assert job.failure == "ZeroDivisionError: by zero"


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A folder on a file system mounted read-only, which stops root, too."""
    real = tempfile.TemporaryFile

    def refuse(dir: Path) -> IO[bytes]:
        if dir == folder:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


@pytest.mark.parametrize("name", ["model", "output/data", "checkpoints"])
def test_c101_where_results_cannot_be_written_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    job = small_job(tmp_path / "ml", epochs="1000000", patience="1000000")
    (job.base / "checkpoints").mkdir()
    forbid(monkeypatch, job.base / name)
    assert TrainingJob(job.base).run() == 1
    reason = (
        f"cannot write into {job.base / name}: Read-only file system; mount {job.base} so that user {os.getuid()} may "
        "write"
    )
    assert job.failure.startswith(reason)
    assert reason in caplog.text


def test_c101_a_failure_that_cannot_be_written_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert TrainingJob(tmp_path / "none").run() == 2
    assert f"SAGEMAKER_BASE_DIR {tmp_path / 'none'} is no folder; mount one with the data in input/data" in caplog.text
    caplog.clear()
    (tmp_path / "output").touch()  # where a folder should be: an error for root, too
    assert TrainingJob(tmp_path).run() == 2
    first, second = caplog.messages
    assert "no channel named train" in first
    assert second == f"cannot write {tmp_path / 'output' / 'failure'}: File exists"


def test_c101_what_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml")
    (job.config / "hyperparameters.json").unlink()
    (job.config / "hyperparameters.json").mkdir()
    assert TrainingJob(job.base).run() == 1
    assert "Is a directory" in job.failure


def test_a_folder_of_an_earlier_job_is_refused(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml", **QUICK)
    assert TrainingJob(job.base).run() == 0
    assert TrainingJob(job.base).run() == 2
    assert job.failure.endswith("output/data/run holds the run of an earlier job; give this one an empty folder")


def test_an_evaluation_of_an_earlier_job_is_not_replaced(tmp_path: Path) -> None:
    """Its run may have been moved elsewhere."""
    job = small_job(tmp_path / "ml", **QUICK)
    evaluation = job.base / "output" / "data" / "evaluation.json"
    evaluation.parent.mkdir(parents=True)
    evaluation.write_text("precious")
    assert TrainingJob(job.base).run() == 2
    assert "output/data/evaluation.json is of an earlier job; give this one an empty folder" in job.failure
    assert evaluation.read_text() == "precious"
