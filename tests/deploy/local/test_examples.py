"""Every example of an endpoint, with the real Triton, asked by real boto3."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.deploy.local.support import STAND_IN, Local, ended
from tests.support.eventually import eventually

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[3] / "examples" / "deploy"
# Endpoints of one container and one model, and what of their files is not rehearsed.
PLAIN = {
    "single": "", "several-recommenders": "", "gpu": "", "scaling": "scaling", "observed": "metrics, dashboard",
    "private": "vpc, network_isolation, kms_key", "rolling": "", "update": "alarms that rollback names",
}  # fmt: skip
OTHERS = ("variants", "shadow", "containers-direct", "containers-serial", "multi-model", "asynchronous", "serverless")
JOBS = ("train-job", "transform")
ASK = b'{"user_id": "user 1", "k": 2}'


def copied(name: str, folder: Path, archive: Path) -> Path:
    """An example that fits this machine: one worker, and a default model of the archive's name."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    text = text.replace("SERVE_WORKERS: 4", "SERVE_WORKERS: 1").replace("ncf_food_model", "tiny")
    path = folder / f"{name}.yaml"
    path.write_text(text)
    if not (folder / "food.tar.gz").exists():
        shutil.copy(archive, folder)
    return path


def items(answer: dict[str, Any]) -> list[Any]:
    return [one["item_id"] for one in json.loads(answer["Body"].read())["recommendations"]]


def test_every_example_is_rehearsed_or_named() -> None:
    refused = ("lambda", "registry")
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == {*PLAIN, *OTHERS, *JOBS, *refused}


def test_endpoints_of_one_model(tmp_path: Path, archive: Path, s3_url: str) -> None:
    files = [copied(name, tmp_path, archive) for name in PLAIN]
    with Local(*files, AWS_ENDPOINT_URL=s3_url, MY_SERVICE_PASSWORD="secret") as local:
        local.ready()
        names = [one["EndpointName"] for one in local.sagemaker.list_endpoints()["Endpoints"]]
        assert len(names) == len(PLAIN)
        for name in names:
            answer = local.runtime.invoke_endpoint(EndpointName=name, Body=ASK, ContentType="application/json")
            assert (len(items(answer)), answer["InvokedProductionVariant"]) == (2, "AllTraffic")
        for word in PLAIN.values():
            assert word in local.log.read_text()
        assert local.stop().count("AllTraffic, weight 1: 1 requests, 0 × 4xx, 0 × 5xx") == len(PLAIN)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, archive: Path, s3_url: str) -> Iterator[Local]:
    """The examples of all other patterns; somebody else's container in the pipeline is the stand-in."""
    folder = tmp_path_factory.mktemp("patterns")
    files = [copied(name, folder, archive) for name in OTHERS]
    images = {"my-preparation:v3": STAND_IN}
    with Local(*files, images=images, AWS_ENDPOINT_URL=s3_url, SERVE_WORKERS="1") as running:
        yield running.ready()


def test_variants(local: Local) -> None:
    asked = [local.runtime.invoke_endpoint(EndpointName="ab", Body=ASK) for _ in range(100)]
    assert {answer["InvokedProductionVariant"] for answer in asked} == {"Champion", "Challenger"}
    assert all(len(items(answer)) == 2 for answer in asked)


def test_shadow(local: Local) -> None:
    for _ in range(20):
        assert len(items(local.runtime.invoke_endpoint(EndpointName="food-shadow", Body=ASK))) == 2


def test_containers_that_the_caller_chooses(local: Local) -> None:
    for container in ("food", "fashion"):
        answer = local.runtime.invoke_endpoint(EndpointName="shops", Body=ASK, TargetContainerHostname=container)
        assert len(items(answer)) == 2
    for other in ({}, {"TargetContainerHostname": "shoes"}):
        with pytest.raises(ClientError, match="must name a container"):
            local.runtime.invoke_endpoint(EndpointName="shops", Body=ASK, **other)


def test_containers_one_after_the_other(local: Local) -> None:
    click = json.dumps({"make": {"text": ASK.decode()}}).encode()
    assert len(items(local.runtime.invoke_endpoint(EndpointName="pipeline", Body=click))) == 2
    for make, container, status in (({"status": 500}, "prepare", 500), ({"text": "no JSON"}, "recommend", 400)):
        with pytest.raises(ClientError, match=f"from {container} with message") as raised:
            local.runtime.invoke_endpoint(EndpointName="pipeline", Body=json.dumps({"make": make}).encode())
        assert raised.value.response["OriginalStatusCode"] == status


def test_many_models(local: Local) -> None:
    for target in ("food.tar.gz", "fashion.tar.gz", "food.tar.gz"):
        answer = local.runtime.invoke_endpoint(EndpointName="many", Body=ASK, TargetModel=target)
        assert len(items(answer)) == 2
    for target, words in (("no.tar.gz", "Failed to download model data"), ("../models/food.tar.gz", "leads out of")):
        with pytest.raises(ClientError, match=words):
            local.runtime.invoke_endpoint(EndpointName="many", Body=ASK, TargetModel=target)
    with pytest.raises(ClientError, match="Target model header is required"):
        local.runtime.invoke_endpoint(EndpointName="many", Body=ASK)


def test_asynchronous(local: Local, s3: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_object(Bucket="my-bucket", Key="nightly/requests/one", Body=ASK)
    runtime = local.runtime
    answer = runtime.invoke_endpoint_async(
        EndpointName="nightly", InputLocation="s3://my-bucket/nightly/requests/one", ContentType="application/json"
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    failing = runtime.invoke_endpoint_async(EndpointName="nightly", Body=b"no JSON", InferenceId="mine")
    assert failing["InferenceId"] == "mine"

    def stored(uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        found = s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents")
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read() if found else b""

    assert answer["OutputLocation"].startswith("s3://my-bucket/nightly/answers/")
    assert len(json.loads(eventually(lambda: stored(answer["OutputLocation"])))["recommendations"]) == 2
    assert b"the body is not JSON" in eventually(lambda: stored(failing["FailureLocation"]))
    with pytest.raises(ClientError, match="use InvokeEndpointAsync"):
        runtime.invoke_endpoint(EndpointName="nightly", Body=ASK)
    for wrong in ({}, {"Body": b"x" * 128_001}):
        with pytest.raises(ClientError, match=r"Give InputLocation or Body|exceeded 128000 bytes"):
            runtime.invoke_endpoint_async(EndpointName="nightly", **wrong)


def test_serverless(local: Local) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda _: local.runtime.invoke_endpoint(EndpointName="rarely-asked", Body=ASK), range(8)))
    assert all(len(items(answer)) == 2 for answer in asked)


def test_the_summary_has_it_all(local: Local) -> None:
    """The last test of this file: it ends the rehearsal."""
    summary = local.stop()
    assert "2 models loaded, 0 unloaded" in summary
    assert "asynchronous: 1 answered, 1 failed, 0 waiting" in summary
    assert "100.0 % of the items in both" in summary


@pytest.mark.parametrize(("name", "words"), [("lambda", "Lambda functions are not"), ("registry", "packages of the")])
def test_what_is_not_rehearsed(name: str, words: str, tmp_path: Path, archive: Path) -> None:
    done = ended(copied(name, tmp_path, archive))
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
