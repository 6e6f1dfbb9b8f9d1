"""The order of answers, and the end of connections and of requests that take too long."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from contextlib import suppress

import pytest

from serve.http1.request import Request
from serve.http1.state import ServerState
from tests.serve.http1.apps import App, echo
from tests.support.eventually import eventually
from tests.support.front import Front, read_all, read_until

SHORT = 0.3
LARGE = 10_000_000


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def reset(connection: socket.socket) -> None:
    """Close by a reset: the server learns at once that the client is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def large(request: Request) -> None:
    request.respond(200, [], b"x" * LARGE)


def test_answers_come_in_order_one_after_the_other() -> None:
    running = most = 0

    async def answer(request: Request) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1 if request.path == b"/0" else 0)
        running -= 1
        await echo(request)

    with Front(App(answer)) as front:
        wire = b"".join(get(f"/{number}") for number in range(20)) + get("/20", "Connection: close")
        answers = front.exchange(wire)
    assert [part.split()[1] for part in answers.split(b"\r\n\r\n")[1:]] == [b"/%d?" % number for number in range(21)]
    assert most == 1


def test_a_body_may_come_behind_a_slow_request() -> None:
    go = asyncio.Event()

    async def answer(request: Request) -> None:
        if request.path == b"/slow":
            await go.wait()
        await echo(request)

    app = App(answer)
    with Front(app) as front, front.connect() as connection:
        connection.sendall(get("/slow"))
        eventually(lambda: app.seen)
        connection.sendall(
            get("/next") + b"POST /last HTTP/1.1\r\nConnection: close\r\nContent-Length: 3000000\r\n\r\n"
        )
        with suppress(TimeoutError):  # reading stops while two requests wait, so the kernel's buffers fill
            connection.settimeout(SHORT)
            connection.sendall(b"x" * 3_000_000)
        assert front.state.body_bytes < 2_500_000
        front.loop.call_soon_threadsafe(go.set)
        connection.settimeout(20)
        answers = read_all(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answers) == [b"200", b"200", b"413"]


@pytest.mark.parametrize(
    ("version", "header", "stays_open"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_a_connection_stays_open_as_the_client_asks(version: bytes, header: bytes, stays_open: bool) -> None:
    with Front(App()) as front, front.connect() as connection:
        connection.sendall(b"GET /1 HTTP/%b\r\n%b\r\n" % (version, header))
        answer = read_until(connection, b"GET /1? ")
        assert (b"connection: close" in answer) is not stays_open
        if stays_open:
            connection.sendall(get("/2", "Connection: close"))
        assert (b"GET /2? " in read_all(connection)) is stays_open


def test_a_client_that_sends_no_more_gets_its_answers() -> None:
    async def answer(request: Request) -> None:
        await asyncio.sleep(0.1)
        await echo(request)

    app = App(answer)
    with Front(app) as front:
        for wire, wanted in ((get("/1") + get("/2"), [b"200", b"200"]), (get("/1") + get("/2")[:-2], [b"200"])):
            with front.connect() as connection:
                connection.sendall(wire)
                connection.shutdown(socket.SHUT_WR)
                answers = read_all(connection)
            assert re.findall(rb"HTTP/1\.1 (\d+) ", answers) == wanted
        with front.connect() as connection:
            connection.sendall(b"POST /1 HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
            connection.shutdown(socket.SHUT_WR)
            assert b"closed before the body was complete" in read_all(connection)
        assert front.state.body_bytes == 0


def test_a_request_that_is_too_old_ends_and_leaves_nothing() -> None:
    async def answer(request: Request) -> None:
        await request.body(1000)
        await asyncio.sleep(1000)

    app = App(answer)
    with Front(app, ServerState(SHORT, 2**20)) as front:
        answer_of = front.exchange(get("/slow", "Connection: close"))
        assert answer_of.startswith(b"HTTP/1.1 408 ")
        with front.connect() as connection:
            connection.sendall(b"POST /half HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
            assert read_until(connection, b"too late").startswith(b"HTTP/1.1 408 ")
            eventually(lambda: front.num_tasks() == 0)
            assert front.state.body_bytes == 0
            connection.sendall(b" rest")  # is not kept
            assert read_all(connection) == b""
        assert front.state.body_bytes == 0
    assert app.ends == ["cancelled", "cancelled"]
    assert [request.path for request in app.expired] == [b"/slow", b"/half"]


def test_slow_heads_idle_connections_and_rests_of_bodies_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("connection.HEAD_SECONDS", "connection.DISCARD_SECONDS", "server.IDLE_SECONDS"):
        monkeypatch.setattr(f"serve.http1.{limit}", SHORT)

    async def answer(request: Request) -> None:
        request.respond(200, [], b"early")

    with Front(App(answer)) as front:
        for wire in (b"", b"POST / HTTP/1.1\r\nHos", get("/"), b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"):
            with front.connect() as connection:
                connection.sendall(wire)
                assert read_all(connection).count(b"early") == (wire.count(b"\r\n\r\n"))
        eventually(lambda: not front.server.connections)


def test_a_client_that_does_not_read_gets_no_more_answers_and_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.http1.connection.STALL_SECONDS", SHORT)
    app = App(large)
    with Front(app) as front:
        front.connect().sendall(get("/") * 20)
        eventually(lambda: app.seen)
        eventually(lambda: not front.server.connections)
        assert len(app.seen) == 1


def test_a_client_that_reads_late_gets_all_answers() -> None:
    app = App(large)
    with Front(app) as front, front.connect() as connection:
        connection.sendall(get("/") * 9 + get("/", "Connection: close"))
        eventually(lambda: app.seen)
        assert len(app.seen) == 1
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 10
    assert len(answers) > 10 * LARGE


def test_a_stream_ends_when_its_time_is_over_however_slowly_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.http1.connection.STREAM_SECONDS", 2 * SHORT)

    async def answer(request: Request) -> None:
        request.start(200, [])
        while True:
            await request.write(b"x" * 1_000_000)

    app = App(answer)
    with Front(app, ServerState(SHORT, 2**20)) as front, front.connect() as connection:
        connection.sendall(get("/"))

        def read_a_little() -> list[str]:
            with suppress(ConnectionResetError):
                connection.recv(1000)
            return app.ends

        eventually(read_a_little)  # the client always takes some bytes, so STALL_SECONDS do not end the stream
        eventually(lambda: not front.server.connections)
    assert app.expired


@pytest.mark.parametrize(
    ("path", "end"), [(b"/may-be-cancelled", "cancelled"), (b"/reads", "client gone"), (b"/other", "cancelled")]
)
def test_when_the_client_goes_its_task_ends_and_what_waits_is_forgotten(path: bytes, end: str) -> None:
    async def answer(request: Request) -> None:
        request.cancel = request.path == b"/may-be-cancelled"
        if request.path == b"/reads":
            await request.body(1000)
        await asyncio.sleep(1000)

    app = App(answer)
    with Front(app, ServerState(0.5 if path == b"/other" else 1000.0, 2**20)) as front:
        connection = front.connect()
        body = b"POST %b HTTP/1.1\r\nContent-Length: 4\r\n\r\nhalf" % path
        connection.sendall(body[:-2])
        eventually(lambda: front.state.body_bytes == 2)
        if path != b"/reads":
            connection.sendall(body[-2:] + body)
            eventually(lambda: front.state.body_bytes == 8)
        reset(connection)
        eventually(lambda: front.num_tasks() == 0)
        assert front.state.body_bytes == 0
    assert app.ends == [end]
