"""Bodies as they come, and the forms of an answer."""

from __future__ import annotations

import asyncio

import pytest

from serve.http1.request import Request
from serve.http1.state import ServerState
from tests.serve.http1.apps import App, echo
from tests.support.eventually import eventually
from tests.support.front import Front, read_all, read_until

CLOSE = b"Connection: close\r\n"


def post(body: bytes, headers: bytes = CLOSE, length: int | None = None) -> bytes:
    return b"POST / HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (headers, length or len(body), body)


def chunked(*parts: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % CLOSE
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


def test_100_continue_is_sent_when_the_body_is_wanted() -> None:
    async def answer(request: Request) -> None:
        if request.headers.get(b"x") == b"early":
            request.respond(403, [], b"no")
        else:
            await echo(request)

    expect = b"Expect: 100-continue\r\n"
    with Front(App(answer)) as front:
        with front.connect() as connection:
            connection.sendall(post(b"", CLOSE + expect, 2))
            assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"ab")
            assert read_all(connection).endswith(b"POST /? ab")
        with front.connect() as connection:
            connection.sendall(post(b"", b"X: early\r\n" + expect, 2))
            answered = read_until(connection, b"no")
            assert answered.startswith(b"HTTP/1.1 403 ")
            assert b"connection: close" in answered  # the body may or may not follow


@pytest.mark.parametrize("wire", [post(b"x" * 11), chunked(b"x" * 6, b"x" * 5), chunked(b"x" * 11)])
def test_a_body_above_the_limit_is_refused(wire: bytes) -> None:
    async def answer(request: Request) -> None:
        request.respond(200, [], await request.body(10))

    with Front(App(answer)) as front:
        assert front.exchange(wire).startswith(b"HTTP/1.1 413 ")
        assert front.exchange(post(b"x" * 10)).endswith(b"x" * 10)
        eventually(lambda: front.state.body_bytes == 0)


def test_the_bodies_of_all_requests_have_one_limit() -> None:
    go = asyncio.Event()

    async def answer(request: Request) -> None:
        body = await request.body(1000)
        await go.wait()
        request.respond(200, [], b"%d" % len(body))

    with Front(App(answer), ServerState(30.0, 1000)) as front:
        first = front.connect()
        first.sendall(post(b"x" * 600))
        eventually(lambda: front.state.body_bytes == 600)
        assert front.exchange(post(b"", CLOSE, 401), b"x" * 401).startswith(b"HTTP/1.1 503 ")
        assert front.exchange(chunked(b"x" * 300, b"x" * 200)).startswith(b"HTTP/1.1 503 ")
        second = front.connect()
        second.sendall(post(b"x" * 400))
        eventually(lambda: front.state.body_bytes == 1000)
        front.loop.call_soon_threadsafe(go.set)
        for connection in (first, second):
            assert read_all(connection).startswith(b"HTTP/1.1 200 ")
            connection.close()
        eventually(lambda: front.state.body_bytes == 0)


def test_a_body_that_is_read_and_dropped_counts_only_what_is_not_read() -> None:
    most = 0

    async def answer(request: Request) -> None:
        nonlocal most
        request.count_unread_only()
        size = 0
        async for part in request.stream(10**8):
            size += len(part)
            most = max(most, request.counted_bytes)
            assert request.counted_bytes == request.unread_bytes
        request.respond(200, [], b"%d" % size)

    with Front(App(answer), ServerState(30.0, 3_000_000)) as front:
        assert front.exchange(post(b"x" * 20_000_000)).endswith(b"20000000")
        assert 0 < most < 3_000_000
        assert front.state.body_bytes == 0


def test_a_client_that_sends_faster_than_the_body_is_read_waits() -> None:
    go = asyncio.Event()

    async def answer(request: Request) -> None:
        await go.wait()
        request.respond(200, [], b"%d" % len(await request.body(10**8)))

    app = App(answer)
    with Front(app) as front, front.connect() as connection:
        connection.sendall(post(b"", CLOSE, 20_000_000))
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.sendall(b"x" * 20_000_000)
        assert app.seen[0].size < 2**21


def test_to_peek_takes_nothing() -> None:
    async def answer(request: Request) -> None:
        first = [await request.peek(3, 1000), await request.peek(3, 1000)]
        request.respond(200, [], b"|".join([*first, await request.body(1000), b""]))

    with Front(App(answer)) as front:
        assert front.exchange(post(b"abc")).endswith(b"\r\n\r\nabc|abc|abc|")
        assert front.exchange(post(b"", CLOSE, 4), b"ab", b"cd").endswith(b"\r\n\r\nabc|abc|abcd|")
        assert front.exchange(post(b"")).endswith(b"\r\n\r\n|||")


def test_the_answer_to_head_has_the_length_and_no_body() -> None:
    with Front(App()) as front:
        answer = front.exchange(b"HEAD /x HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"content-length: 9\r\nconnection: close\r\n\r\n")


@pytest.mark.parametrize("size", [0, 10, 1_000_000])
def test_only_the_first_answer_is_sent(size: int) -> None:
    async def answer(request: Request) -> None:
        request.respond(200, [(b"x-y", b"z")], b"a" * size)
        request.respond(500, [], b"another")

    with Front(App(answer)) as front:
        answers = front.exchange(post(b"") + post(b""))
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert answers.endswith(b"x-y: z\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % size + b"a" * size)


def test_a_stream_has_a_length_or_chunks_or_ends_with_the_connection() -> None:
    length: int | None = None

    async def answer(request: Request) -> None:
        request.start(200, [], length)
        for part in (b"ab", b"", b"c"):
            await request.write(part)
        request.end()

    get = b"GET / HTTP/1.%d\r\nConnection: %b\r\n\r\n"
    with Front(App(answer)) as front:
        answered = front.exchange(get % (1, b"keep-alive") + get % (1, b"close"))
        assert answered.count(b"transfer-encoding: chunked\r\n") == 2
        assert answered.count(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n") == 2
        assert front.exchange(get % (0, b"keep-alive")).endswith(b"connection: close\r\n\r\nabc")
        length = 3
        assert front.exchange(get % (1, b"close")).endswith(b"content-length: 3\r\nconnection: close\r\n\r\nabc")


def test_a_stream_waits_for_a_client_that_is_slow_to_read() -> None:
    written = 0

    async def answer(request: Request) -> None:
        nonlocal written
        request.start(200, [])
        for _ in range(100):
            await request.write(b"x" * 1_000_000)
            written += 1
        request.end()

    app = App(answer)
    with Front(app) as front, front.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        eventually(lambda: written > 0)
        assert written < 50
        assert len(read_all(connection)) > 100_000_000
        assert (written, app.ends) == (100, ["answered"])


def test_an_answer_that_breaks_off_does_not_look_whole() -> None:
    async def answer(request: Request) -> None:
        request.start(200, [])
        await request.write(b"half")
        request.abort()

    with Front(App(answer)) as front:
        answered = front.exchange(post(b""))
    assert answered.startswith(b"HTTP/1.1 200 OK")
    assert not answered.endswith(b"0\r\n\r\n")


def test_to_abort_after_the_answer_costs_the_next_request_nothing() -> None:
    async def answer(request: Request) -> None:
        await echo(request)
        request.abort()

    with Front(App(answer)) as front:
        assert front.exchange(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n" + CLOSE + b"\r\n").endswith(b"GET /2? ")


def test_writing_to_a_client_that_is_gone_ends_the_task() -> None:
    async def answer(request: Request) -> None:
        await asyncio.sleep(0.2)
        if request.path == b"/started":
            request.start(200, [])
        while True:
            await request.write(b"x" * 1_000_000)

    app = App(answer)
    with Front(app) as front:
        for path in (b"/", b"/started"):
            connection = front.connect()
            connection.sendall(b"GET %b HTTP/1.1\r\n\r\n" % path)
            eventually(lambda: front.num_tasks() == 1)
            connection.close()
            eventually(lambda: front.num_tasks() == 0)
    assert app.ends == ["client gone", "client gone"]
