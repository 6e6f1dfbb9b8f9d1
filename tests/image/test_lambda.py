"""The cpu image as a Lambda function, made as docs/image.md says, and as a serverless endpoint."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.image.docker import CPU, docker
from tests.serve.aws_lambda.runtime_api import SECONDS, RuntimeApi, assert_binary_both_ways, http_event
from tests.support.serving import Server, in_container

IMAGE = "localhost/ncf-ci-lambda"
# Lambda's user, its 512 MB in /tmp, 1,024 processes and threads, and no shared memory.
NO_SHARED_MEMORY = "--tmpfs=/dev/shm:ro,size=4k"
AS_LAMBDA = (
    "--read-only", "--tmpfs=/tmp:rw,exec,size=512m", NO_SHARED_MEMORY, "--memory=512m", "--memory-swap=512m",
    "--pids-limit=1024", "--user=993:990", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host",
)  # fmt: skip


@pytest.fixture(scope="module")
def image(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of docs/image.md's example, with the trained repository in it."""
    page = (Path(__file__).parents[2] / "docs" / "image.md").read_text()
    (example,) = re.findall(r"\n((?:    .+\n)*    CMD \[\"lambda\"\]\n)", page)
    assert "FROM ncf-triton:cpu\n" in example
    context = tmp_path_factory.mktemp("lambda")
    (context / "Dockerfile").write_text(example.replace("    ", "").replace("ncf-triton:cpu", CPU))
    shutil.copytree(trained, context / "model_repository")
    docker("build", "--tag", IMAGE, context)
    yield IMAGE
    docker("image", "rm", IMAGE)


@contextmanager
def function(image: str, *command: str) -> Iterator[tuple[RuntimeApi, str]]:
    """The runtime API, and the name of the container that asks it."""
    with RuntimeApi() as api:
        name = f"ncf-test-lambda-{api.server_port}"
        mine = (f"--name={name}", f"--env=AWS_LAMBDA_RUNTIME_API={api.address}")
        docker("run", "--detach", *mine, *AS_LAMBDA, image, *command)
        try:
            yield api, name
        finally:
            print(docker("logs", name).stderr)
            docker("rm", "--force", name)


@pytest.fixture(scope="module")
def running(image: str) -> Iterator[RuntimeApi]:
    with function(image) as (api, _):
        yield api


def test_an_http_event(running: RuntimeApi) -> None:
    answer = running.invoke(http_event("POST", "/invocations", '{"user_id": "u3", "k": 5}')).json
    assert answer["statusCode"] == 200, answer
    assert answer["headers"]["content-type"] == "application/json"
    assert len(json.loads(answer["body"])["recommendations"]) == 5
    assert running.invoke(http_event("GET", "/ping")).json["statusCode"] == 200


def test_binary_both_ways(running: RuntimeApi) -> None:
    assert_binary_both_ways(running, "u3", "i8")


def test_a_direct_payload_and_its_error(running: RuntimeApi) -> None:
    assert len(running.invoke({"user_id": "u3", "k": 5}).json["recommendations"]) == 5
    refused = running.invoke({"user_id": "u3", "k": "many"})
    assert (refused.kind, refused.json["errorType"]) == ("error", "bad_request")


def test_more_than_lambda_takes_is_an_error_and_not_the_end(running: RuntimeApi) -> None:
    event = http_event("POST", "/invocations", '{"user_id": "u3"}\n' * 30_000)
    event["headers"]["content-type"] = "application/jsonlines"
    refused = running.invoke(event).json
    assert (refused["statusCode"], json.loads(refused["body"])["code"]) == (413, "body_too_large"), refused
    assert running.invoke(http_event("GET", "/ping")).json["statusCode"] == 200


def test_a_function_without_a_model_says_so() -> None:
    with function(CPU, "lambda") as (api, name):
        kind, error = api.init_errors.get(timeout=SECONDS)
        assert docker("wait", name).stdout.strip() == "1"
    assert kind == "Serve.StartError"
    assert "SERVE_MODEL_REPOSITORY /opt/ml/model is no folder" in error["errorMessage"]


def test_outside_of_lambda_it_says_so() -> None:
    ended = docker("run", "--rm", "--network=none", CPU, "lambda", check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "AWS_LAMBDA_RUNTIME_API is not set" in ended.stderr


def test_serverless_one_worker_a_gigabyte_and_no_shared_memory(trained: Path) -> None:
    server = Server(trained)
    mine = {"SAGEMAKER_BIND_TO_PORT": str(server.port), "SERVE_BIND_ADDRESS": "127.0.0.1", "SERVE_WORKERS": "1"}
    limits = ("--memory=1g", "--memory-swap=1g", NO_SHARED_MEMORY, "--network=host")
    server.command = in_container(CPU, server.port, trained, mine, *limits)
    with server:
        server.wait_until_ready()
        assert server.invoke({"user_id": "u3", "k": 5}).status == 200
