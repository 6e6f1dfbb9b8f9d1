"""The stock container's environment variables, with a real Triton and models in Python."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from tests.support.environment import ANY, metrics_page, write_models
from tests.support.serving import Server, children_of, free_port, run_serve
from tests.support.small_models import write_model

pytestmark = pytest.mark.e2e

NUMBER = {"inputs": [{"name": "NUMBER", "datatype": "INT32", "shape": [1, 2], "data": [3, 4]}]}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("environment")
    write_models(path)
    return path


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
        assert [word for word in words_of_triton(server) if "-address" in word] == [
            "--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"
        ]  # fmt: skip


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
