"""The drain, and how long an idle connection may stay."""

from __future__ import annotations

import asyncio
import threading
import time
from email.utils import parsedate_to_datetime

import pytest

from serve.http1.connection import LINGER_SECONDS
from serve.http1.request import Request
from serve.http1.state import IDLE_SECONDS
from tests.serve.http1.apps import App, echo
from tests.support.eventually import eventually
from tests.support.front import Front, read_all, read_until

GET = b"GET / HTTP/1.1\r\n\r\n"


def test_a_drain_answers_what_has_come_and_closes_every_connection() -> None:
    go = asyncio.Event()

    async def answer(request: Request) -> None:
        await go.wait()
        await echo(request)

    app = App(answer)
    with Front(app) as front:
        idle, busy, pipelined = (front.connect() for _ in range(3))
        busy.sendall(GET)
        pipelined.sendall(GET * 3)
        eventually(lambda: len(app.seen) == 2 and len(front.server.connections) == 3)
        draining = threading.Thread(target=lambda: front.run(front.server.drain(20)))
        draining.start()
        eventually(lambda: front.state.draining)
        front.loop.call_soon_threadsafe(go.set)
        answers = [read_all(connection) for connection in (idle, busy, pipelined)]
        draining.join(20)
        assert not front.server.connections
        for connection in (idle, busy, pipelined):
            connection.close()
    assert [answer.count(b"HTTP/1.1 200 OK") for answer in answers] == [0, 1, 3]
    assert [answer.count(b"connection: close") for answer in answers] == [0, 1, 1]


def test_a_request_on_its_way_to_an_idle_connection_is_answered_in_a_drain() -> None:
    with Front(App()) as front, front.connect() as connection:
        eventually(lambda: front.server.connections)
        draining = threading.Thread(target=lambda: front.run(front.server.drain(20)))
        draining.start()
        eventually(lambda: front.state.draining)
        connection.sendall(GET)
        assert b"connection: close" in read_all(connection)
        draining.join(20)


def test_a_drain_breaks_off_what_does_not_end() -> None:
    async def answer(request: Request) -> None:
        await asyncio.sleep(1000)

    with Front(App(answer)) as front, front.connect() as connection:
        connection.sendall(GET)
        eventually(lambda: front.num_tasks() == 1)
        began = time.monotonic()
        front.run(front.server.drain(0.3))
        assert time.monotonic() - began >= 0.3
        assert read_all(connection) == b""
        eventually(lambda: not front.server.connections)


def test_idle_connections_are_closed_early_when_sockets_run_short() -> None:
    with Front(App(), max_connections=10) as front:
        connections = [front.connect() for _ in range(8)]
        eventually(lambda: len(front.server.connections) == 8)
        front.server.tick()
        assert front.state.idle_seconds == IDLE_SECONDS
        connections.append(front.connect())
        eventually(lambda: front.state.idle_seconds == LINGER_SECONDS)
        eventually(lambda: len(front.server.connections) < 9)
        assert read_all(connections[0]) == b""


def test_the_date_is_that_of_now() -> None:
    with Front(App()) as front, front.connect() as connection:
        for _ in range(2):
            connection.sendall(GET)
            head = read_until(connection, b"GET /? ").decode()
            date = next(line for line in head.split("\r\n") if line.startswith("date: "))
            assert abs(parsedate_to_datetime(date.removeprefix("date: ")).timestamp() - time.time()) < 5


@pytest.mark.parametrize("connections", [1, 50])
def test_connections_are_forgotten_when_they_close(connections: int) -> None:
    with Front(App()) as front:
        for _ in range(connections):
            front.exchange(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        eventually(lambda: not front.server.connections)
