from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serve.healthcheck import is_healthy

SERVE, TRAIN, LAMBDA = (b"/usr/bin/python3\0/opt/venv/bin/%b\0" % verb for verb in (b"serve", b"train", b"lambda"))


@pytest.fixture
def port() -> Iterator[int]:
    """A server on the loopback interface that answers /ping with 200 and everything else with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ping" else 404)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("address", ["", " ", "0.0.0.0", "::", "127.0.0.1"])
def test_it_asks_where_serve_listens(port: int, address: str) -> None:
    environment = {"SAGEMAKER_BIND_TO_PORT": str(port), "SERVE_BIND_ADDRESS": address}
    assert is_healthy(SERVE, environment)
    assert not is_healthy(SERVE, {**environment, "SERVE_BIND_ADDRESS": "127.0.0.2"})


@pytest.mark.parametrize("command", [TRAIN, LAMBDA])
def test_another_verb_is_healthy_whatever_the_settings_of_serve_say(command: bytes) -> None:
    assert is_healthy(command, {"SAGEMAKER_BIND_TO_PORT": "eighty"})


@pytest.mark.parametrize("value", ["", "   "])
def test_a_blank_port_is_the_default_port(value: str) -> None:
    """Nobody listens there in a test, or something else does: whether it is healthy is left open, an error is not."""
    environment = {**os.environ, "SAGEMAKER_BIND_TO_PORT": value}
    command = [sys.executable, "-m", "serve.healthcheck"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode in (0, 1)
    assert ended.stderr == ""


def test_a_setting_that_serve_refuses_is_named() -> None:
    environment = {**os.environ, "SAGEMAKER_BIND_TO_PORT": "eighty"}
    command = [sys.executable, "-m", "serve.healthcheck"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("serve: SAGEMAKER_BIND_TO_PORT is 'eighty'; it must be ")
