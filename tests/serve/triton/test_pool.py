"""The pool against a server with the faults a real Triton cannot be asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from serve.errors import Unavailable
from serve.triton.address import TritonAddress
from serve.triton.pool import TritonPool

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nInference-Header-Content-Length: 2\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def against(handler: Handler, test: Callable[[TritonPool], Awaitable[None]], max_connections: int = 4) -> None:
    async def both() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pool = TritonPool(lambda: TritonAddress("127.0.0.1", port), max_connections)
        try:
            await asyncio.wait_for(test(pool), 10)
        finally:
            for connection in pool._idle:
                if connection.transport is not None:
                    connection.transport.close()
            await asyncio.sleep(0.1)  # the handlers see it and close their side
            server.close()

    asyncio.run(both())


def test_a_request_and_its_answer() -> None:
    heard: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heard.append(await read_request(reader))
                for part in (OK[:20], OK[20:70], OK[70:]):  # an answer in pieces
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.01)
        except asyncio.IncompleteReadError:
            writer.close()

    async def test(pool: TritonPool) -> None:
        for body in (b"abc", b"x" * 100_000):
            answer = await pool.request(b"POST", "/v2/models/m/infer", body, 7)
            assert (answer.status, answer.body, answer.header_length) == (200, b"hello", 2)
            assert answer.content_type == b"text/plain"

    against(handler, test)
    assert heard[0].startswith(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: triton\r\n")
    assert b"Inference-Header-Content-Length: 7\r\n" in heard[0]
    assert heard[1].endswith(b"x" * 100_000)


def test_a_kept_alive_connection_that_was_closed_is_replaced() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One answer a connection, then closed without a word, as a server does with one that was idle too long."""
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()

    async def test(pool: TritonPool) -> None:
        for pause in (0, 0.1, 0.01, 0.021, 0.1):
            assert (await pool.request(b"GET", "/")).status == 200
            await asyncio.sleep(pause)

    against(handler, test)
    assert connections >= 3


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"rubbish\r\n\r\n"])
def test_a_broken_answer_is_unavailable_and_the_next_request_works(answer: bytes) -> None:
    first = True

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        await read_request(reader)
        writer.write(answer if first else OK)
        first = False
        await writer.drain()
        writer.close()

    async def test(pool: TritonPool) -> None:
        with pytest.raises(Unavailable, match="dropped the request"):
            await pool.request(b"GET", "/")
        assert (await pool.request(b"GET", "/")).body == b"hello"

    against(handler, test)


def test_nobody_there_is_unavailable() -> None:
    async def test() -> None:
        with pytest.raises(Unavailable, match="not ready"):
            await TritonPool(lambda: TritonAddress("127.0.0.1", 1)).request(b"GET", "/")

    asyncio.run(test())


def test_requests_wait_for_a_connection_and_a_cancelled_one_frees_its_place() -> None:
    at_once = most = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        try:
            while True:
                await read_request(reader)
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(0.02)
                at_once -= 1
                writer.write(OK)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def test(pool: TritonPool) -> None:
        tasks = [asyncio.create_task(pool.request(b"GET", "/")) for _ in range(20)]
        await asyncio.sleep(0.03)
        for number in (2, 3, 10, 11):  # two under way, two waiting
            tasks[number].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(answer, asyncio.CancelledError) for answer in answers) >= 3
        assert all(getattr(answer, "body", b"hello") == b"hello" for answer in answers)
        assert all([(await pool.request(b"GET", "/")).status == 200 for _ in range(6)])

    against(handler, test, max_connections=3)
    assert most <= 3 + 2  # a cancelled request's connection is cut; the server may still be busy with it


def test_connections_are_used_again() -> None:
    opened: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(1)
        try:
            while True:
                await read_request(reader)
                await asyncio.sleep(0.01)
                writer.write(OK)
        except asyncio.IncompleteReadError:
            writer.close()

    async def test(pool: TritonPool) -> None:
        for _ in range(20):
            await pool.request(b"GET", "/v2")
        assert len(opened) == 1
        for _ in range(5):
            await asyncio.gather(*(pool.request(b"GET", "/v2") for _ in range(4)))
        assert len(opened) == 4

    against(handler, test)


def test_a_connection_the_server_closes_is_not_used_again() -> None:
    opened: list[int] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(1)
        await read_request(reader)
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        writer.close()

    async def test(pool: TritonPool) -> None:
        for _ in range(3):
            assert (await pool.request(b"GET", "/v2")).body == b"hello"
        assert len(opened) == 3

    against(handler, test)
