"""The real gunicorn with one worker of ours, without a Triton: the control plane needs none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gunicorn.config import Config

from serve.models.served import SERVED_FILE, VIEW_FOLDER, Served
from serve.telemetry.counts import TALLY_FOLDER
from serve.worker.gunicorn_worker import FROZEN_SECONDS, SignOfLife
from tests.support.eventually import eventually
from tests.support.front import read_all, read_until
from tests.support.serving import free_port


def post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Gunicorn:
    """A gunicorn on a free port; `log` has its stderr."""

    def __init__(self, folder: Path) -> None:
        Served(ready=True).write(folder / SERVED_FILE)
        for name in (TALLY_FOLDER, VIEW_FOLDER):
            (folder / name).mkdir()
        self.port, self.log = free_port(), folder / "log"
        command = [
            sys.executable, "-m", "gunicorn", f"serve.worker.application:create_application('{folder}')",
            "--worker-class", "serve.worker.gunicorn_worker.Worker", "--bind", f"127.0.0.1:{self.port}",
            "--graceful-timeout", "10", "--log-level", "warning",
        ]  # fmt: skip
        environment = {**os.environ, "SAGEMAKER_MULTI_MODEL": "true", "SERVE_MULTI_MODEL_ROOT": str(folder)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return False
        return True


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Gunicorn]:
    running = Gunicorn(tmp_path)
    try:
        eventually(running.listens, 60)
        yield running
    finally:
        running.process.kill()
        running.process.wait(30)


def test_sigterm_closes_the_port_and_answers_what_has_come(gunicorn: Gunicorn) -> None:
    with gunicorn.connect() as half, gunicorn.connect() as idle:
        request = post("/invocations", b'{"model": "unknown"}')
        half.sendall(request[:-9])
        idle.sendall(b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_until(idle, b'"models"').startswith(b"HTTP/1.1 200 OK")
        gunicorn.process.send_signal(signal.SIGTERM)
        eventually(lambda: not gunicorn.listens())
        assert read_all(idle) == b""
        half.sendall(request[-9:])
        answer = read_all(half)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close" in answer
    assert gunicorn.process.wait(30) == 0
    assert "Traceback" not in gunicorn.log.read_text()


def test_the_log_of_a_worker_has_the_form_of_the_supervisors(gunicorn: Gunicorn) -> None:
    with gunicorn.connect() as connection:
        url = gunicorn.log.parent / "empty"
        url.mkdir()
        connection.sendall(post("/models", b'{"model_name": "m", "url": "%b"}' % bytes(url)))
        assert read_until(connection, b'"code"').startswith(b"HTTP/1.1 400 ")
    assert gunicorn.log.read_text().startswith("serve: m is not loaded: ")


def test_a_worker_that_was_frozen_with_its_arbiter_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on AWS Lambda. One that gives no sign of life while the arbiter looks is late as ever."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    sign = SignOfLife(Config())
    sign.notify()
    for _ in range(40):
        now += 1
        assert sign.last_update() == 1000
    now += FROZEN_SECONDS + 1
    thawed = now
    for _ in range(40):
        assert sign.last_update() == thawed
        now += 1
    sign.notify()
    assert sign.last_update() == now
    sign.close()
