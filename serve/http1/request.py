"""One HTTP request: its body as it comes, and its answer, whole or in parts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import TYPE_CHECKING

from serve.errors import BadRequest, BodyTooLarge, Overloaded

if TYPE_CHECKING:
    from serve.http1.connection import Connection

Headers = list[tuple[bytes, bytes]]

# What is read ahead of a body; beyond it the client waits.
WINDOW = 1 << 20

STATUS = {each.value: b"HTTP/1.1 %d %s\r\n" % (each.value, each.phrase.encode()) for each in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientGone(Exception):
    """The caller closed the connection; there is nobody to answer."""


class Request:
    """One request and its answer: `respond`, or `start`, `write` and `end`."""

    __slots__ = (
        "ahead", "cancel", "chunked", "chunks", "complete", "connection", "expect", "fault",
        "headers", "held", "http_1_0", "keep_alive", "method", "passing", "path",
        "pieces", "query", "size", "started", "status", "task", "waiter",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.method = ""
        self.path = b""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}  # names in lower case
        self.keep_alive = self.http_1_0 = self.expect = False
        self.chunks: deque[bytes] = deque()
        self.size = self.pieces = 0  # bytes and parts of the body that have come
        self.ahead = 0  # bytes that have come and were not read
        self.held = 0  # bytes that count as in memory: all that have come, unless they are `passing`
        self.passing = False
        self.complete = False
        self.fault = ""  # why the rest of the body will not come
        self.chunked = False  # how the answer is sent
        self.waiter: asyncio.Future[None] | None = None
        self.started = 0.0  # time.monotonic
        self.cancel = False  # whether nothing is lost if the task is cancelled when the client goes
        self.status = 0  # of the answer, once it has begun
        self.task: asyncio.Task[None] | None = None

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge as soon as the limit is known to be passed, or ClientGone."""
        if self.complete and len(self.chunks) == 1 and self.size <= limit:  # most requests
            return self.chunks[0]
        return b"".join([chunk async for chunk in self.stream(limit)])

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        """The body as it comes. Raises BodyTooLarge as soon as the limit is known to be passed, or ClientGone."""
        self._check_length(limit)
        taken = 0
        while chunk := await self._next():
            taken += len(chunk)
            if self.connection.server.held > self.connection.server.max_held:
                raise Overloaded("the bodies under way take all the room there is for them; try again shortly")
            if taken > limit:
                raise BodyTooLarge(f"the body has more than {limit:,} bytes; at most {limit:,} are taken")
            yield chunk

    def _check_length(self, limit: int) -> None:
        declared = int(self.headers.get(b"content-length", b"0"))
        if declared > limit:
            raise BodyTooLarge(f"the body has {declared:,} bytes; at most {limit:,} are taken")
        server = self.connection.server
        if server.held + (0 if self.passing else declared - self.held) > server.max_held:
            raise Overloaded("the bodies under way take all the room there is for them; try again shortly")

    async def _next(self) -> bytes:
        """The next part of the body, empty at its end."""
        while not self.chunks:
            if self.complete:
                return b""
            if self.connection.transport is None:
                raise ClientGone
            if self.fault:
                raise BadRequest(self.fault)
            if self.expect:
                self.expect = False
                self.connection.transport.write(CONTINUE)
            self.connection.resume()  # what comes may be behind requests for which reading was stopped
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        chunk = self.chunks.popleft()
        self.ahead -= len(chunk)
        if self.passing:
            self.let_go(len(chunk))
        if not self.complete and self.ahead <= WINDOW // 2:
            self.connection.resume()
        return chunk

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer in one write; nothing if the request has been answered already, or nobody is there."""
        if self.status or self.connection.transport is None:
            return
        head = self._head(status, headers, b"content-length: %d\r\n" % len(body))
        if self.method == "HEAD":
            body = b""
        transport = self.connection.transport
        if len(body) < 65_536:
            transport.write(head + body)
        else:  # not worth a copy
            transport.write(head)
            transport.write(body)
        self.connection.answered(self)

    def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Begin an answer of `length` bytes, or of a length nobody knows yet. Raises ClientGone, also where the
        request has been answered already."""
        if self.status or self.connection.transport is None:
            raise ClientGone
        self.chunked = length is None and not self.http_1_0
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self.chunked:
            framing = b"transfer-encoding: chunked\r\n"
        else:
            framing, self.keep_alive = b"", False
        head = self._head(status, headers, framing)
        self.connection.transport.write(head)

    async def write(self, data: bytes) -> None:
        """Go on with an answer; waits for a slow reader. Raises ClientGone."""
        transport = self.connection.transport
        if transport is None:
            raise ClientGone
        if data:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
        if self.connection.writable is not None:
            await self.connection.writable

    def end(self) -> None:
        """End an answer that was begun by `start`."""
        if self.connection.transport is not None:
            if self.chunked:
                self.connection.transport.write(b"0\r\n\r\n")
            self.connection.answered(self)

    async def peek(self, size: int, limit: int) -> bytes:
        """The first `size` bytes of the body, or all bytes of a shorter body; they stay to be read.

        Raises BodyTooLarge if the body's length is known to be more than `limit`, or ClientGone.
        """
        self._check_length(limit)
        parts: list[bytes] = []
        length = 0
        while length < size and (chunk := await self._next()):
            parts.append(chunk)
            length += len(chunk)
        begin = parts[0] if len(parts) == 1 else b"".join(parts)
        if begin:
            self.chunks.appendleft(begin)
            self.ahead += length
        return begin if length <= size else begin[:size]

    def gone(self) -> None:
        """The client has gone. What Triton computes goes on: it would not notice, and the place it takes is taken."""
        if self.task is not None:
            self.give_up_after(0 if self.cancel else self.connection.server.timeout_seconds)
        self.wake()

    def give_up_after(self, seconds: float) -> None:
        """End the task then, if it is still there: a Triton that never answers must not keep its place for good."""
        if self.task is not None:
            asyncio.get_running_loop().call_later(seconds, self.task.cancel)

    def hold(self, size: int) -> None:
        """So many bytes of the body are in memory."""
        self.held += size
        self.connection.server.held += size

    def let_go(self, size: int) -> None:
        self.held -= size
        self.connection.server.held -= size

    def wake(self) -> None:
        """Look again at what has come of the body."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def abort(self) -> None:
        """Break the connection: an answer that was begun cannot be finished, and must not look whole."""
        if self.connection.transport is not None:
            self.connection.transport.abort()

    def _head(self, status: int, headers: Headers, length: bytes) -> bytes:
        self.status = status
        server = self.connection.server
        if (server.draining and not self.connection.waiting) or not self.complete:
            self.keep_alive = False
        parts = [STATUS[status], server.date]
        parts += [b"%b: %b\r\n" % header for header in headers]
        parts.append(length)
        if not self.keep_alive:
            parts.append(b"connection: close\r\n\r\n")
        elif self.http_1_0:
            parts.append(b"connection: keep-alive\r\n\r\n")
        else:
            parts.append(b"\r\n")
        return b"".join(parts)
