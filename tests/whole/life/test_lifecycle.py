"""Starting, dying, recovering and stopping, with real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from ncf.export.export import export
from ncf.training.run_directory import Run
from tests.support.eventually import eventually
from tests.support.serving import Server, children_of, free_port, run_serve, scratch

pytestmark = pytest.mark.e2e

ASK = {"user_id": "user 0", "k": 2}


@pytest.mark.core
def test_ready_pings_answers_and_a_clean_stop(one_model: Path) -> None:
    with Server(one_model) as server:
        # The port is open long before the models are ready. Triton is held, so that they are not in the meantime.
        eventually(lambda: children_of(server.process.pid).keys() >= {"gunicorn", "tritonserver"})
        triton = children_of(server.process.pid)["tritonserver"]
        os.kill(triton, signal.SIGSTOP)
        assert eventually(server.ping) == 503
        assert server.invoke(ASK).status == 503
        os.kill(triton, signal.SIGCONT)
        server.wait_until_ready()
        assert server.invoke(ASK).status == 200  # one recommender: no name needed
        assert server.invoke(ASK, {"X-Amzn-SageMaker-Target-Model": "other"}).status == 200
        eventually(lambda: "ready after" in server.log.read_text())
        pids = list(children_of(server.process.pid).values())
        kept = scratch(server)
        assert kept
        assert all(path.exists() for path in kept)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 30
        log = server.log.read_text()
        assert "Traceback" not in log
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        assert not any(path.exists() for path in kept)


@pytest.mark.core
def test_sigterm_lets_requests_in_flight_finish(one_model: Path) -> None:
    with Server(one_model, SERVE_WORKERS="1") as server:
        server.wait_until_ready()
        body = json.dumps(ASK).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow:
            # A request whose body is still on its way when SIGTERM comes.
            slow.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            slow.sendall(body[:4])
            assert server.ping() == 200  # one worker takes connections in their order, so it has taken that one
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: server.ping() == 0)
            slow.sendall(body[4:])
            assert slow.recv(4096).startswith(b"HTTP/1.1 200")
        assert server.process.wait(60) == 0


def test_no_answer_is_lost_at_sigterm_under_load(one_model: Path) -> None:
    """Every request that was accepted gets a whole answer; after that connections are refused."""
    problems: list[str] = []
    answered = 0

    def load(server: Server) -> None:
        nonlocal answered
        while True:
            try:
                answer = server.invoke(ASK)
            except ConnectionRefusedError:
                return
            except OSError as error:
                if not stopping.is_set():
                    problems.append(repr(error))
                return  # accepted by the kernel, never by the server, which had closed its port
            if answer.status != 200:
                problems.append(f"{answer.status} {answer.body!r}")
            answered += 1

    stopping = threading.Event()
    with Server(one_model) as server:
        server.wait_until_ready()
        threads = [threading.Thread(target=load, args=(server,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        eventually(lambda: answered > 50)
        stopping.set()
        assert server.stop() == 0
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
    assert problems == []
    assert answered > 50


@pytest.mark.core
def test_tritonserver_that_dies_is_started_again(one_model: Path) -> None:
    with Server(one_model) as server:
        server.wait_until_ready()
        eventually(lambda: "ready after" in server.log.read_text())
        os.kill(children_of(server.process.pid)["tritonserver"], signal.SIGKILL)
        eventually(lambda: server.ping() == 503)
        refused = server.invoke(ASK)
        assert refused.status == 503
        server.wait_until_ready()
        assert server.invoke(ASK).status == 200
        assert "tritonserver was killed by SIGKILL; starting it again (1 of 3)" in server.log.read_text()
        assert server.stop() == 0


def test_tritonserver_may_die_again_while_it_loads(one_model: Path) -> None:
    with Server(one_model) as server:
        server.wait_until_ready()
        eventually(lambda: "ready after" in server.log.read_text())
        for death in (1, 2):
            triton = children_of(server.process.pid)["tritonserver"]
            os.kill(triton, signal.SIGKILL)
            eventually(lambda: f"({death} of 3)" in server.log.read_text())  # noqa: B023
            eventually(lambda: "tritonserver" in children_of(server.process.pid))
            time.sleep(0.5)
        server.wait_until_ready()
        assert server.invoke(ASK).status == 200


@pytest.mark.clock
def test_ping_says_503_while_tritonserver_hangs(one_model: Path) -> None:
    with Server(one_model) as server:
        server.wait_until_ready()
        triton = children_of(server.process.pid)["tritonserver"]
        os.kill(triton, signal.SIGSTOP)
        began = time.monotonic()
        assert server.ping() == 503
        assert time.monotonic() - began < 2
        os.kill(triton, signal.SIGCONT)
        eventually(lambda: server.ping() == 200)


def test_an_export_killed_between_its_two_models_costs_nothing(tiny_run: Run, tmp_path: Path) -> None:
    """The second version of one half is there and the other is not: the version both have is served."""
    export(tiny_run, tmp_path, "tiny")
    shutil.copytree(tmp_path / "tiny_query" / "1", tmp_path / "tiny_query" / "2")
    with Server(tmp_path) as server:
        server.wait_until_ready()
        answer = server.invoke(ASK)
        assert answer.status == 200
        assert answer.json["model_version"] == "1"
    assert export(tiny_run, tmp_path, "tiny").version == 3  # the number that was begun is not used again
    assert {path.name for path in (tmp_path / "tiny").iterdir()} == {"1", "3", "config.pbtxt"}
    assert {path.name for path in (tmp_path / "tiny_query").iterdir()} == {"1", "2", "3", "config.pbtxt", "warmup"}


def test_gunicorn_that_dies_is_started_again_on_the_same_port(one_model: Path) -> None:
    with Server(one_model) as server:
        server.wait_until_ready()
        before = children_of(server.process.pid)["gunicorn"]
        os.kill(before, signal.SIGKILL)
        eventually(lambda: children_of(server.process.pid).get("gunicorn", before) != before)
        server.wait_until_ready()
        assert server.invoke(ASK).status == 200
        assert "gunicorn was killed by SIGKILL; starting it again (1 of 3)" in server.log.read_text()


def test_what_dies_again_and_again_ends_everything(one_model: Path) -> None:
    with Server(one_model) as server:
        server.wait_until_ready()
        for _ in range(4):
            gunicorn = children_of(server.process.pid)["gunicorn"]
            os.kill(gunicorn, signal.SIGKILL)
            eventually(lambda last=gunicorn: server.process.poll() is not None
                       or children_of(server.process.pid).get("gunicorn", last) != last)  # fmt: skip
        assert server.process.wait(60) == 1
        assert "giving up" in server.log.read_text()


def test_when_serve_is_killed_nothing_is_left_running(one_model: Path) -> None:
    with Server(one_model) as server:
        server.wait_until_ready()
        pids = list(children_of(server.process.pid).values())
        server.process.kill()
        server.process.wait()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_odd_paths_and_a_folder_with_an_odd_name(one_model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "josé's models" / "now"
    shutil.copytree(one_model, repository)
    shutil.copytree(repository / "tiny", repository / "tiny (copy)")
    with Server(repository) as server:
        server.wait_until_ready()
        assert server.invoke(ASK).status == 200
        assert "tiny (copy) is passed over" in server.log.read_text()


def test_a_port_that_is_taken(one_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_serve(one_model, SAGEMAKER_BIND_TO_PORT=str(port))
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in ended.stderr
    assert "SAGEMAKER_BIND_TO_PORT" in ended.stderr


def test_c014_c054_to_c056_a_repository_that_cannot_be_served(one_model: Path, tmp_path: Path) -> None:
    wrong_default = {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "x"}
    cases: list[tuple[Path, dict[str, str], str]] = [
        (tmp_path / "none", {}, "is no folder"),
        (tmp_path, {}, "No model found in model repository"),
        (one_model / "tiny", {}, "Incorrect directory structure"),
        (one_model, wrong_default, "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME x does not exist"),
    ]
    for path, environment, message in cases:
        ended = run_serve(path, **environment)
        assert ended.returncode == 1
        assert message in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("half", ["tiny", "tiny_query"])
def test_c023_a_single_model_that_cannot_be_loaded(one_model: Path, tmp_path: Path, half: str) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(one_model, repository)
    (repository / half / "1" / "model.pt").write_bytes(b"no TorchScript")
    ended = run_serve(repository)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if "is not served" in line]
    assert line.startswith(f"serve: tiny: version 1 is not served: {half}: ")
    assert f"{repository}/{half}/1/model.pt cannot be loaded as TorchScript" in line  # not the links Triton was given
    assert "no request can be answered without tiny" in ended.stderr


def test_c008_a_read_only_repository_and_c016_ports_in_the_safe_range(one_model: Path, tmp_path: Path) -> None:
    first = free_port()
    with Server(one_model, SAGEMAKER_SAFE_PORT_RANGE=f"{first}-{min(first + 50, 65535)}") as server:
        server.wait_until_ready()
        triton = children_of(server.process.pid)["tritonserver"]
        words = Path(f"/proc/{triton}/cmdline").read_text().split("\0")
        ports = [int(word.partition("=")[2]) for word in words if "-port=" in word]
        assert len(ports) == 3  # HTTP, gRPC, metrics
        assert all(first <= port <= first + 50 for port in ports)
        assert [path for path in one_model.rglob("*") if path.stat().st_mtime > server.log.stat().st_ctime] == []
