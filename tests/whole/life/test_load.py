"""Stopping and overload while many requests are under way: nothing that was accepted is lost."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.serving import Server, children_of
from tests.support.small_models import slow_body, slow_model

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def slow_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slow")
    slow_model(path)
    return path


class Clients:
    """Clients that each send one request after the other on a kept-alive connection, until the port is closed."""

    def __init__(self, server: Server, bodies: list[dict[str, Any]], count: int) -> None:
        self.server, self.bodies = server, [json.dumps(body).encode() for body in bodies]
        self.statuses: Counter[int] = Counter()
        self.without_a_time_to_retry = 0
        self.lost: list[str] = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=40)
        while True:
            try:
                connection.connect()
            except OSError:  # refused: the port is closed
                return
            while connection.sock is not None:
                try:
                    connection.request("POST", "/invocations", self.bodies[number % len(self.bodies)])
                    response = connection.getresponse()
                    response.read()
                    with self.lock:
                        self.statuses[response.status] += 1
                        self.without_a_time_to_retry += response.status == 503 and "Retry-After" not in response.headers
                    if response.will_close:
                        connection.close()
                except (OSError, http.client.HTTPException) as error:
                    with self.lock:
                        self.lost.append(repr(error))
                    connection.close()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive()


def test_c005_sigterm_loses_no_request(one_model: Path) -> None:
    """200 clients at once, recommendations, pairs and pass-through; each is answered, then the port is closed.

    Workers do not share their clients equally, so one of them may have more than it has places for: that answer is 503.
    """
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [1, 1], "data": [1]} for name in ("user_index", "item_index")
    ]
    bodies: list[dict[str, Any]] = [
        {"user_id": "user 0"},
        {"pairs": [{"user_id": "user 0", "item_id": "7"}]},
        {"inputs": inputs},
    ]
    with Server(one_model, SERVE_WORKERS="2") as server:
        server.wait_until_ready()
        clients = Clients(server, bodies, 200)
        eventually(lambda: clients.lost or clients.statuses[200] > 400)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 30
        clients.join()
        server_log = server.log.read_text()
    assert clients.lost == [], server_log
    assert set(clients.statuses) <= {200, 503}
    assert clients.without_a_time_to_retry == 0
    assert clients.statuses[200] > 400


def send(server: Server, document: dict[str, Any]) -> http.client.HTTPConnection:
    """A request whose answer has not been read yet."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/invocations", json.dumps(document))
    return connection


def test_c005_requests_that_wait_for_a_slow_model_are_answered(slow_repository: Path) -> None:
    """60 requests of .1 s each on one instance are in flight when the signal comes; new connections are refused."""
    with Server(slow_repository, SERVE_WORKERS="1") as server, ExitStack() as stack:
        server.wait_until_ready()
        sent = [stack.enter_context(closing(send(server, slow_body(0.1, number)))) for number in range(60)]
        assert server.ping() == 200  # one worker takes connections in their order, so it has taken those before
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.ping() == 0)
        for number, connection in enumerate(sent):
            response = connection.getresponse()
            assert response.status == 200
            assert json.load(response)["outputs"][0]["data"][0] == pytest.approx(number + 0.1, abs=1e-4)
        assert server.process.wait(60) == 0


def test_c003_c004_as_process_1_serve_obeys_sigterm(slow_repository: Path) -> None:
    """In a namespace of its own `serve` is process 1, where a signal without a handler does nothing."""
    server = Server(slow_repository)
    server.command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *server.command]
    with server:
        server.wait_until_ready()
        (inner,) = children_of(server.process.pid).values()
        os.kill(inner, signal.SIGTERM)
        assert server.process.wait(60) == 0


@pytest.mark.core
def test_c037_overload_is_503_at_once_and_the_accepted_are_answered(slow_repository: Path) -> None:
    """Ten places, 50 requests to a model that waits for a file: forty are turned away before one is answered."""
    with Server(slow_repository, SERVE_MAX_IN_FLIGHT="10", SERVE_WORKERS="1") as server:
        server.wait_until_ready()
        with ExitStack() as stack:
            sent = [stack.enter_context(closing(send(server, slow_body(-1, n)))) for n in range(50)]
            sockets = [connection.sock for connection in sent]
            eventually(lambda: len(select.select(sockets, [], [], 0)[0]) >= 40)
            answered = select.select(sockets, [], [], 0)[0]
            assert len(answered) == 40
            (slow_repository / "slow" / "1" / "go").touch()
            responses = [connection.getresponse() for connection in sent]
            assert Counter(response.status for response in responses) == {200: 10, 503: 40}
            for response in responses:
                if response.status == 503:
                    assert response.headers["Retry-After"] == "1"
                    assert json.load(response)["code"] == "overloaded"
        assert server.invoke(slow_body(0, 1)).status == 200  # and it is over


@pytest.mark.core
def test_c028_a_request_that_takes_too_long_is_504(slow_repository: Path) -> None:
    with Server(slow_repository, SERVE_TIMEOUT_SECONDS="1") as server:
        server.wait_until_ready()
        began = time.monotonic()
        answer = server.invoke(slow_body(8, 1))
        assert (answer.status, answer.json["code"]) == (504, "deadline_exceeded")
        assert "SERVE_TIMEOUT_SECONDS" in answer.json["error"]
        assert time.monotonic() - began < 8
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as half:
            half.sendall(b"POST /invocations HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
            assert half.recv(100).startswith(b"HTTP/1.1 408 ")
        # Until then the model is busy with a request that nobody waits for.
        eventually(lambda: server.invoke(slow_body(0, 1)).status == 200)
