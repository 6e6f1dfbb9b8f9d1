"""The stock container's environment variables as arguments of a real tritonserver, without serve."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from serve.settings import Settings
from serve.triton.address import KEY_HEADER, TritonAddress
from serve.triton.admin import GRPC_KEY_HEADER, TritonAdmin
from serve.triton.arguments import triton_arguments
from serve.triton.runtime import find_runtime
from tests.support.environment import ANY, metrics_page, write_models
from tests.support.eventually import eventually
from tests.support.serving import Answer, free_port

pytestmark = pytest.mark.e2e


KEY = {KEY_HEADER: "secret"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("environment")
    write_models(path)
    return path


@dataclass(frozen=True)
class Triton:
    """A tritonserver started by `triton_arguments` and nothing else."""

    address: TritonAddress
    pid: int

    def ask(self, method: str, path: str, document: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection(self.address.host, self.address.http_port, timeout=30)
        try:
            connection.request(method, path, json.dumps(document) if document is not None else None, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def is_ready(self) -> bool:
        with suppress(OSError):
            return self.ask("GET", "/v2/health/ready").status == 200
        return False


@pytest.fixture(scope="module")
def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """Every setting that becomes an argument is set: Triton stops at one it does not know."""
    environment = {
        "ALLOW_METRICS": "true",
        "THREAD_COUNT": "4",
        "BUFFER_MANAGER_THREAD_COUNT": "2",
        "LOG_VERBOSE": "2",
        "LOG_INFO": "1 --load-model=double",
        "LOG_WARNING": "off",
        "LOG_ERROR": "on",
        "SHM_DEFAULT_BYTE_SIZE": "8388608",
        "SHM_GROWTH_BYTE_SIZE": "2097152",
        "TENSORFLOW_VERSION": "2",
        "MODEL_LOAD_GPU_LIMIT": "0.9",
        "DISABLE_MODEL_NAMESPACING": "False",
        "ADDITIONAL_ARGS": "--id 'a server' --log-info=false",
    }
    settings = Settings.from_environment({f"SAGEMAKER_TRITON_{name}": value for name, value in environment.items()})
    address = TritonAddress("127.0.0.1", free_port(), free_port(), free_port(), KEY[KEY_HEADER])
    scratch = tmp_path_factory.mktemp("triton")
    prefix = f"environment_{secrets.token_hex(4)}_"
    runtime = find_runtime(scratch)
    arguments = triton_arguments(settings, repository, ["told"], address, prefix, 2**30, gpus=1, exit_seconds=2)
    command = [str(runtime.program), *runtime.arguments, *arguments]
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(command, env=runtime.environment, stdout=log, stderr=log, start_new_session=True)
    try:
        started = Triton(address, process.pid)
        eventually(lambda: started.is_ready() or process.poll() is not None)
        assert process.poll() is None, (scratch / "log").read_text()
        yield started
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):  # its stubs are in its session
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        for left in Path("/dev/shm").glob(f"{prefix}*"):
            left.unlink(missing_ok=True)


def test_c044_custom_attributes_reach_the_model(triton: Triton) -> None:
    for name in ("X-Amzn-SageMaker-Custom-Attributes", "x-amzn-sagemaker-custom-attributes"):
        headers = {name: "model=a,trace=b c", "X-Amzn-SageMaker-Inference-Id": "7", f"X-{name}": "no"}
        answer = triton.ask("POST", "/v2/models/told/infer", {**ANY, "parameters": {"own": 1}}, headers)
        assert json.loads(answer.json["outputs"][0]["data"][0]) == {"own": 1, name: "model=a,trace=b c"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/double/unload"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/models/stats"),
        ("GET", "/v2/logging"),
        ("GET", "/v2/trace/setting"),
    ],
)
def test_c016_what_changes_triton_takes_a_key(triton: Triton, method: str, path: str) -> None:
    assert triton.ask(method, path, {}).status >= 400
    assert triton.ask(method, path, {}, {KEY_HEADER: "wrong"}).status >= 400
    if not path.endswith("unload"):
        assert triton.ask(method, path, {}, KEY).status == 200


def test_c016_over_grpc_too(triton: Triton) -> None:
    client = triton_grpc.InferenceServerClient(f"127.0.0.1:{triton.address.grpc_port}")
    assert client.is_server_ready()
    assert {model.name for model in client.get_model_repository_index({GRPC_KEY_HEADER: "secret"}).models} >= {"told"}
    for call in (client.get_model_repository_index, client.get_log_settings, client.get_trace_settings):
        with pytest.raises(InferenceServerException, match="This protocol is restricted"):
            call()
    with pytest.raises(InferenceServerException, match="This protocol is restricted"):
        client.unload_model("double")
    client.close()


def test_c053_c059_what_is_loaded_and_what_is_only_there(triton: Triton) -> None:
    index = {
        model["name"]: model.get("state", "") for model in triton.ask("POST", "/v2/repository/index", {}, KEY).json
    }
    assert index == {"told": "READY", "double": "READY", "chain": "", "sums": "", "unread": ""}


def test_c057_c058_triton_took_the_settings(triton: Triton) -> None:
    logging = triton.ask("GET", "/v2/logging", headers=KEY).json
    told = [logging[name] for name in ("log_verbose_level", "log_info", "log_warning", "log_error")]
    assert told == [2, False, False, True]  # of a flag given twice the last one counts
    assert triton.ask("GET", "/v2").json["name"] == "a server"
    sizes = {path.stat().st_size for path in Path("/dev/shm").glob("environment_*")}
    assert 8388608 in sizes


def test_c057_triton_has_metrics_for_serve(triton: Triton) -> None:
    assert b"nv_inference_request_success" in metrics_page(triton.address.metrics_port)


def test_triton_is_live_when_both_interfaces_are_open(triton: Triton) -> None:
    """It opens gRPC first, and workers that used HTTP in that moment answered 503 after `serve` had said "ready"."""
    assert TritonAdmin(lambda: triton.address).is_live()
    assert not TritonAdmin(lambda: replace(triton.address, http_port=free_port())).is_live()
    assert not TritonAdmin(lambda: replace(triton.address, grpc_port=free_port())).is_live()
