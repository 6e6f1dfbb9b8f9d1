"""The stock container's environment variables, with a real Triton and models in Python."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from serve.settings import Settings
from serve.triton.address import KEY_HEADER, TritonAddress
from serve.triton.admin import GRPC_KEY_HEADER
from serve.triton.arguments import triton_arguments
from serve.triton.runtime import find_runtime
from tests.support.eventually import eventually
from tests.support.serving import Answer, Server, children_of, free_port
from tests.support.small_models import write_model
from tests.whole.test_lifecycle import run_serve

pytestmark = pytest.mark.e2e

KEY = {KEY_HEADER: "secret"}
NUMBER = {"inputs": [{"name": "NUMBER", "datatype": "INT32", "shape": [1, 2], "data": [3, 4]}]}

# `told`: answers the parameters of the request.
TOLD = """
import numpy
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request.parameters().encode()) for request in requests]

    def answer(self, parameters):
        return triton.InferenceResponse([triton.Tensor("TOLD", numpy.array([parameters], dtype=object))])
"""
TOLD_CONFIG = """
backend: "python"
input [ { name: "ANY" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
ANY = {"inputs": [{"name": "ANY", "datatype": "INT32", "shape": [1], "data": [1]}]}

# `chain`: an ensemble of one step, `double`.
CHAIN_CONFIG = """
platform: "ensemble"
max_batch_size: 4
input [ { name: "NUMBER" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "DOUBLE" data_type: TYPE_INT32 dims: [ -1 ] } ]
ensemble_scheduling {
  step [ {
    model_name: "double" model_version: -1
    input_map { key: "NUMBER" value: "NUMBER" } output_map { key: "DOUBLE" value: "DOUBLE" }
  } ]
}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`chain` and its step `double`, `told` and `sums`, and one that nobody may need: its configuration is none."""
    path = tmp_path_factory.mktemp("environment")
    for name in ("double", "sums"):
        write_model(name, path / name)
    for name, config in (("chain", CHAIN_CONFIG), ("told", TOLD_CONFIG), ("unread", "{{{")):
        (path / name / "1").mkdir(parents=True)
        (path / name / "config.pbtxt").write_text(config)
    (path / "told" / "1" / "model.py").write_text(TOLD)
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


def ready_models(server: Server) -> set[str]:
    return {model["modelName"] for model in server.request("GET", "/models").json["models"]}


def test_c053_c058_c059_exactly_the_default_and_what_arguments_name(repository: Path) -> None:
    """The values of the workshop's notebooks and of public examples; the ports are closed, and the log is quiet."""
    environment = {
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "told",
        "SAGEMAKER_TRITON_LOG_VERBOSE": "0",
        "SAGEMAKER_TRITON_LOG_INFO": "false --load-model=sums",
        "SAGEMAKER_TRITON_LOG_WARNING": "1",
        "SAGEMAKER_TRITON_LOG_ERROR": "1",
        "SAGEMAKER_TRITON_THREAD_COUNT": "10",
        "SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--allow-http=true --load-model double",
    }
    with Server(repository, **environment) as server:
        server.wait_until_ready()
        assert ready_models(server) == {"told", "sums", "double"}
        assert server.invoke(ANY, {"Content-Type": "application/octet-stream"}).status == 200
        assert not any("metrics-port" in word for word in words_of_triton(server))


def test_c055_an_ensemble_and_its_step(repository: Path) -> None:
    with Server(repository, SAGEMAKER_TRITON_DEFAULT_MODEL_NAME="chain") as server:
        server.wait_until_ready()
        assert ready_models(server) == {"chain", "double"}
        assert server.invoke(NUMBER).json["outputs"][0]["data"] == [6, 8]
        assert "double" not in str(server.request("GET", "/models").json["unavailable"])


def test_c055_the_only_model_is_served_and_several_are_not(repository: Path, tmp_path: Path) -> None:
    ended = run_serve(repository)
    assert ended.returncode == 1
    assert "More than 1 model directory found in model repository" in ended.stderr
    assert ": chain, double, sums, told, unread; " in ended.stderr
    write_model("double", tmp_path / "double")
    with Server(tmp_path) as server:
        server.wait_until_ready()
        assert "starting with the only model there is, double" in server.log.read_text()
        assert server.invoke(NUMBER).json["outputs"][0]["data"] == [6, 8]


def test_c060_an_inference_type_nobody_knows(repository: Path) -> None:
    ended = run_serve(repository, SAGEMAKER_TRITON_INFERENCE_TYPE="guess")
    assert ended.returncode == 1
    assert ended.stderr.startswith("serve: Invalid SAGEMAKER_TRITON_INFERENCE_TYPE 'guess'; ")


def test_c016_c057_open_ports_are_those_of_the_safe_range(repository: Path) -> None:
    """gRPC answers without a key, but for what changes Triton; the metrics can be read; nothing listens elsewhere."""
    first = min(free_port(), 65535 - 50)
    environment = {
        "SAGEMAKER_SAFE_PORT_RANGE": f"{first}-{first + 50}",
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "double",
        "SAGEMAKER_TRITON_ALLOW_GRPC": "true",
        "SAGEMAKER_TRITON_ALLOW_METRICS": "true",
        "SAGEMAKER_TRITON_METRICS_PORT": str(first + 40),
    }
    with Server(repository, **environment) as server:
        server.wait_until_ready()
        ports = listening(server.process.pid)
        assert ports >= {server.port, first + 40}
        assert all(first <= port <= first + 50 for port in ports - {server.port})
        words = words_of_triton(server)
        (grpc,) = (int(word.partition("=")[2]) for word in words if word.startswith("--grpc-port="))
        client = triton_grpc.InferenceServerClient(f"127.0.0.1:{grpc}")
        assert client.is_model_ready("double")
        with pytest.raises(InferenceServerException, match="This protocol is restricted"):
            client.unload_model("double")
        client.close()
        assert b"nv_inference_request_success" in metrics_page(first + 40)


def words_of_triton(server: Server) -> list[str]:
    triton = children_of(server.process.pid)["tritonserver"]
    return Path(f"/proc/{triton}/cmdline").read_text().split("\0")


def listening(pid: int) -> set[int]:
    """The TCP ports that a process and everything it has started listen on."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    family: set[int] = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    sockets = set()
    for member in family:
        for link in Path(f"/proc/{member}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(re.sub(r"socket:\[(\d+)\]", r"\1", str(link.readlink())))
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in sockets}


def metrics_page(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()
