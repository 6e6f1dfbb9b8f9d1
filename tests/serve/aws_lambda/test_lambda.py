"""The `lambda` verb: Lambda's own client, the stand-in for its runtime API, and a real `serve`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serve.aws_lambda.runtime_api import SECONDS, RuntimeApi, assert_binary_both_ways, http_event
from tests.support.eventually import eventually
from tests.support.serving import children_of
from tests.support.small_models import slow_model

COMMAND = [sys.executable, "-m", "serve.aws_lambda"]
Function = tuple[RuntimeApi, "subprocess.Popen[bytes]"]


@contextmanager
def function(repository: Path) -> Iterator[Function]:
    """The verb on a repository; it is killed in the end, as by Lambda, and `serve` ends with it."""
    with RuntimeApi() as api:
        mine = {"AWS_LAMBDA_RUNTIME_API": api.address, "SERVE_MODEL_REPOSITORY": str(repository)}
        process = subprocess.Popen(COMMAND, env=os.environ | mine)
        try:
            yield api, process
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def tiny(one_model: Path) -> Iterator[RuntimeApi]:
    with function(one_model) as (api, _):
        yield api


def test_an_http_event_gets_serves_answer(tiny: RuntimeApi) -> None:
    ping = tiny.invoke(http_event("GET", "/ping"))
    assert (ping.kind, ping.json["statusCode"], ping.json["body"]) == ("response", 200, "")
    event = http_event("POST", "/invocations", '{"user_id": "user 1", "k": 2}')
    event["headers"]["x-amzn-sagemaker-inference-id"] = "one"
    answer = tiny.invoke(event).json
    assert answer["headers"]["content-type"] == "application/json"
    assert answer["headers"]["x-amzn-sagemaker-inference-id"] == "one"
    assert not answer["isBase64Encoded"]
    assert len(json.loads(answer["body"])["recommendations"]) == 2


def test_binary_both_ways(tiny: RuntimeApi) -> None:
    assert_binary_both_ways(tiny, "user 1", "7")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [("POST", "/invocations", "{", 400), ("GET", "/nothing", None, 404), ("PUT", "/invocations", "{}", 405)],
)
def test_an_http_event_gets_serves_errors(tiny: RuntimeApi, method: str, path: str, body: str, status: int) -> None:
    result = tiny.invoke(http_event(method, path, body))
    assert (result.kind, result.json["statusCode"]) == ("response", status)
    assert json.loads(result.json["body"])["error"]


def test_a_direct_payload_gets_the_answer_itself(tiny: RuntimeApi) -> None:
    assert len(tiny.invoke({"user_id": "user 1", "k": 2}).json["recommendations"]) == 2
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [1, 1], "data": [1]} for name in ("user_index", "item_index")
    ]
    kserve = tiny.invoke({"inputs": inputs})
    assert kserve.json["outputs"][0]["datatype"] == "FP32", kserve.json


def test_an_error_of_a_direct_payload_is_the_functions_error(tiny: RuntimeApi) -> None:
    result = tiny.invoke({"user": "user 1"})
    assert result.kind == "error"
    assert result.json["errorType"] == "bad_request"
    assert "user" in result.json["errorMessage"]
    assert result.json["stackTrace"] == []
    broken = tiny.invoke(b"{")
    assert (broken.kind, broken.json["errorType"]) == ("error", "Runtime.UnmarshalError")


def test_a_model_that_does_not_load_is_the_reason_of_the_init_error(one_model: Path, tmp_path: Path) -> None:
    shutil.copytree(one_model, tmp_path / "repository")
    for weights in tmp_path.glob("repository/*/1/model.pt"):
        weights.write_bytes(b"this is no TorchScript")
    with function(tmp_path / "repository") as (api, process):
        kind, error = api.init_errors.get(timeout=SECONDS)
        assert process.wait(SECONDS) == 1
    assert kind == error["errorType"] == "Serve.StartError"
    assert error["errorMessage"].startswith("serve ended with exit code 1: ")
    assert "tiny: version 1 is not served: " in error["errorMessage"], error
    assert not api.asked.is_set()


def has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_an_environment_ends_with_serve(one_model: Path) -> None:
    """The event that finds `serve` dead is answered 503, and no further event is taken."""
    with function(one_model) as (api, process):
        eventually(api.asked.is_set)
        (serve,) = children_of(process.pid).values()
        children = children_of(serve)
        family = [serve, *children.values(), *children_of(children["gunicorn"]).values()]
        os.kill(serve, signal.SIGKILL)
        eventually(lambda: all(map(has_ended, family)))  # a worker that still lives would answer the event
        result = api.invoke(http_event("POST", "/invocations", '{"user_id": "user 1"}')).json
        assert process.wait(SECONDS) == 1
    assert result["statusCode"] == 503
    assert "serve ended with exit code -9" in json.loads(result["body"])["error"]


def test_an_event_waits_for_models_that_load_longer_than_the_init_phase(tmp_path: Path) -> None:
    """Lambda allows 10 s for that phase. An event with too little time left is told so."""
    slow_model(tmp_path, load_seconds=12)
    with function(tmp_path) as (api, process):
        early = api.invoke(http_event("GET", "/ping"), seconds=1).json
        assert early["statusCode"] == 503
        assert "not loaded yet" in json.loads(early["body"])["error"]
        assert api.invoke(http_event("GET", "/ping")).json["statusCode"] == 200
        assert process.poll() is None


def test_outside_of_lambda_it_says_so() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "AWS_LAMBDA_RUNTIME_API"}
    ended = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("lambda: AWS_LAMBDA_RUNTIME_API is not set")
    assert ended.stderr.count("\n") == 1
