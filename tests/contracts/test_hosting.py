"""What SageMaker asks of the process that it starts and pings (CONTRACT A1 to A3)."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.serving import IMAGE, Server, children_of, run_serve
from tests.support.small_models import slow_body, slow_model, sums, write_model

pytestmark = pytest.mark.e2e

ACCEPT_SECONDS, PING_SECONDS = 0.25, 2.0  # the contract's own
STUB = "triton_python_backend_stub"

# What a container may find in its environment and what means nothing to `serve`: SageMaker's and the user's variables,
# and those that libraries below it would take for theirs.
UNKNOWN = {
    "AWS_REGION": "eu-west-1", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x", "SAGEMAKER_REGION": "eu-west-1",
    "SAGEMAKER_CONTAINER_LOG_LEVEL": "20", "SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "s3://x",
    "SAGEMAKER_TRITON_OF_TOMORROW": "--http-port=1", "SERVE_OF_TOMORROW": "x y", "SM_MODEL_DIR": "/nowhere",
    "HOSTNAME": "a-container", "PORT": "1", "LANG": "C", "EMPTY": "", "QUOTES": "\"'`$(exit 1)\n;",
}  # fmt: skip
PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY")
TAKEN_FOR_THEIRS = {
    "proxies": dict.fromkeys(PROXIES, "http://127.0.0.1:9"),
    "others": {"GUNICORN_CMD_ARGS": "--nonsense", "WEB_CONCURRENCY": "auto", "AIP_MODE": "PREDICTION"},
}


@pytest.fixture(scope="module")
def summing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("summing")
    write_model("sums", repository / "sums")
    return repository


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("slow")
    slow_model(repository)
    with Server(repository) as server:
        server.wait_until_ready()
        yield server


def accepted(server: Server) -> float:
    """Seconds until a connection was accepted."""
    began = time.monotonic()
    socket.create_connection(("127.0.0.1", server.port), timeout=20).close()
    return time.monotonic() - began


def is_open(server: Server) -> bool:
    """Whether `serve` accepts connections; in a container Docker accepts them before, and an answer is the sign."""
    if IMAGE is not None:
        return server.ping() != 0
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == 0


def test_c007_what_means_nothing_to_serve_changes_nothing(summing: Path) -> None:
    with Server(summing, **UNKNOWN) as server:
        server.wait_until_ready()
        assert server.invoke(sums()).status == 200


@pytest.mark.parametrize("whose", TAKEN_FOR_THEIRS)
def test_c007_libraries_do_not_read_the_containers_environment(summing: Path, whose: str) -> None:
    with Server(summing, **TAKEN_FOR_THEIRS[whose]) as server:
        server.wait_until_ready()
        assert server.invoke(sums()).status == 200


def test_c014_why_it_ends(summing: Path, tmp_path: Path) -> None:
    """The reason is in the log, whatever it is, and no traceback of ours with it."""
    for kind in ("broken", "starved"):
        write_model(kind, tmp_path / kind / kind)
    write_model("sums", tmp_path / "unread" / "unread")
    (tmp_path / "unread" / "unread" / "config.pbtxt").write_text("{{{")
    (tmp_path / "hollow" / "hollow").mkdir(parents=True)
    cases: list[tuple[Path, dict[str, str], int, str]] = [
        (tmp_path / "broken", {}, 1, "ImportError: broken on purpose"),
        (tmp_path / "starved", {}, 1, "MemoryError: out of memory on purpose"),
        (tmp_path / "unread", {}, 1, "config.pbtxt"),
        (tmp_path / "hollow", {}, 1, "hollow"),
        (tmp_path / "nothing", {}, 1, "is no folder"),
        (summing, {"SAGEMAKER_TRITON_THREAD_COUNT": "many"}, 2, "SAGEMAKER_TRITON_THREAD_COUNT is 'many'"),
    ]
    for repository, environment, code, reason in cases:
        ended = run_serve(repository, **environment)
        assert ended.returncode == code, ended.stderr
        assert reason in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.clock
def test_c017_c020_c022_from_the_first_connection_to_the_last_ping(tmp_path: Path) -> None:
    """While a model loads connections are accepted and pings are refused; then they are answered, every time."""
    slow_model(tmp_path, load_seconds=2)
    with Server(tmp_path) as server:
        eventually(lambda: is_open(server))
        pings, waits = [], []
        while 200 not in pings:
            waits.append(accepted(server))
            pings.append(server.ping())
            time.sleep(0.05)
            assert len(pings) < 1000
        assert set(pings[:-1]) == {503}
        assert len(pings) > 10
        assert max(waits) < ACCEPT_SECONDS
        for _ in range(100):
            answer = server.request("GET", "/ping")
            assert (answer.status, answer.body) == (200, b"")
        assert server.invoke(slow_body(0, 1)).status == 200


@pytest.mark.clock
def test_c017_c021_connections_and_pings_under_full_load(slow: Server) -> None:
    """100 requests on one instance of a model; each of them is answered in the end."""
    body = json.dumps(slow_body(0.01, 1)).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", slow.port), timeout=30)) for _ in range(100)
        ]
        for client in clients:
            client.sendall(head + body)
        for _ in range(40):
            assert accepted(slow) < ACCEPT_SECONDS
            began = time.monotonic()
            assert slow.ping() == 200
            assert time.monotonic() - began < PING_SECONDS
        assert all(client.recv(100).startswith(b"HTTP/1.1 200 ") for client in clients)


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("path", ["/ping", "/ping/", "/ping?x=1"])
def test_c020_c025_pings(slow: Server, method: str, path: str) -> None:
    answer = slow.request(method, path, b"{}" if method == "POST" else None)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


def test_c023_a_model_that_does_not_load_is_never_well(tmp_path: Path) -> None:
    write_model("broken", tmp_path / "broken")
    with Server(tmp_path) as server:
        pings = set()
        while server.process.poll() is None:
            pings.add(server.ping())
        assert pings <= {0, 503}
        assert server.process.returncode == 1


@pytest.mark.parametrize("victim", ["tritonserver", STUB])
def test_c023_without_its_backend_it_is_not_well_and_it_recovers(summing: Path, victim: str) -> None:
    """The kernel, short of memory, kills the one or the other; pings tell, and do not lie when they are 200 again."""
    with Server(summing) as server:
        server.wait_until_ready()
        eventually(lambda: "ready after" in server.log.read_text())
        triton = children_of(server.process.pid)["tritonserver"]
        os.kill(triton if victim == "tritonserver" else children_of(triton)[STUB], signal.SIGKILL)
        eventually(lambda: server.ping() == 503)
        server.wait_until_ready()
        assert server.invoke(sums()).status == 200


@pytest.mark.parametrize(("mode", "pings"), [("ready", [200, 503, 200]), ("live", [200, 200, 200])])
def test_c026_the_mode_of_the_ping(tmp_path: Path, mode: str, pings: list[int]) -> None:
    """Before anything is loaded, after a load that failed, and after one that did not."""
    for name in ("broken", "sums"):
        write_model(name, tmp_path / name / "model" / name)
    multi = {"SAGEMAKER_MULTI_MODEL": "true", "SERVE_MULTI_MODEL_ROOT": str(tmp_path)}
    with Server(tmp_path, **multi, SAGEMAKER_TRITON_OVERRIDE_PING_MODE=mode) as server:
        server.wait_until_ready()
        found = [server.ping()]
        for name, status in (("broken", 400), ("sums", 200)):
            body = json.dumps({"model_name": name, "url": str(tmp_path / name / "model")}).encode()
            assert server.request("POST", "/models", body).status == status
            found.append(server.ping())
        assert found == pings


def test_c085_execution_parameters_do_no_harm(slow: Server) -> None:
    assert slow.request("GET", "/execution-parameters").status == 200
    assert slow.request("POST", "/execution-parameters", b"{").status == 405
    assert slow.ping() == 200


def test_c092_an_inference_component_is_asked_like_any_other(slow: Server) -> None:
    headers = {"X-Amzn-SageMaker-Inference-Component": "a-component", "X-Amzn-SageMaker-Inference-Id": "7"}
    answer = slow.invoke(slow_body(0, 2), headers)
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [2])
    assert slow.request("GET", "/ping", headers=headers).status == 200
