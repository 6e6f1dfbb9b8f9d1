"""One HTTP request: its body as it comes, and its answer, whole or in parts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Protocol

from serve.errors import BadRequest, BodyTooLarge, Overloaded
from serve.http1.state import ServerState

Headers = list[tuple[bytes, bytes]]

# The most bytes of a body that are read before the application asks for them; then reading stops, and the client waits.
WINDOW = 1 << 20
# A smaller body is copied behind its head and sent in one write; copying a larger one costs more than a second write.
MAX_COPY = 65_536

STATUS = {each.value: b"HTTP/1.1 %d %s\r\n" % (each.value, each.phrase.encode()) for each in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientGone(Exception):
    """The client closed the connection, so the answer has no reader."""


class ClientConnection(Protocol):
    """The connection of a request (http1/connection.py), as far as the request and its reader use it."""

    state: ServerState
    transport: asyncio.Transport | None  # None once the connection is closed
    writable: asyncio.Future[None] | None  # done when the client has taken enough bytes; None while it may be sent more
    current: Request | None  # the request that is being answered
    waiting: deque[Request]  # the requests behind it
    since: float  # time.monotonic at the last event that a time limit counts from

    def pause(self) -> None:
        """Read no more for now."""

    def resume(self) -> None:
        """Read on."""

    def answered(self, request: Request) -> None:
        """The whole answer to a request was written."""


class Request:
    """One request and its answer: `respond`, or `start`, `write` and `end`."""

    __slots__ = (
        "body_error", "cancel", "chunked", "chunks", "complete", "connection", "counted_bytes", "counts_unread_only",
        "expect", "headers", "http_1_0", "keep_alive", "method", "path", "pieces", "query", "size", "started", "status",
        "task", "unread_bytes", "waiter",
    )  # fmt: skip

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.method = ""
        self.path = b""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}  # names in lower case
        self.keep_alive = self.http_1_0 = self.expect = False
        self.chunks: deque[bytes] = deque()  # parts of the body that the application has not read
        self.size = self.pieces = 0  # bytes and parts of the body that have come
        self.unread_bytes = 0  # bytes in `chunks`
        self.counted_bytes = 0  # bytes that count as in memory: all that have come, or only the unread
        self.counts_unread_only = False
        self.complete = False  # the whole body has come
        self.body_error = ""  # why the rest of the body will not come
        self.chunked = False  # the answer is sent in chunks
        self.waiter: asyncio.Future[None] | None = None  # done when there is news of the body
        self.started = 0.0  # time.monotonic when the head was complete
        self.cancel = False  # nothing is lost if the task is cancelled when the client goes
        self.status = 0  # of the answer, once it has begun
        self.task: asyncio.Task[None] | None = None

    def is_small(self, size: int) -> bool:
        """Whether the whole body has come, in one piece of at most `size` bytes: then `body` waits for nothing."""
        return self.complete and len(self.chunks) == 1 and self.size <= size

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge as soon as it is known to have more than `limit` bytes, or ClientGone."""
        if self.is_small(limit):
            return self.chunks[0]
        return b"".join([chunk async for chunk in self.stream(limit)])

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        """The body as it comes. Raises BodyTooLarge as soon as it is known to have more than `limit` bytes, Overloaded,
        BadRequest if the rest will not come, or ClientGone."""
        self._check_length(limit)
        taken = 0
        while chunk := await self._next():
            taken += len(chunk)
            self._check_memory(0)
            if taken > limit:
                raise BodyTooLarge(f"the body has more than {limit:,} bytes; at most {limit:,} are taken")
            yield chunk

    async def peek(self, size: int, limit: int) -> bytes:
        """The first `size` bytes of the body, or all bytes of a shorter body; they can be read again.

        Raises as `stream` does.
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
            self.unread_bytes += length
        return begin if length <= size else begin[:size]

    def _check_length(self, limit: int) -> None:
        declared = int(self.headers.get(b"content-length", b"0"))
        if declared > limit:
            raise BodyTooLarge(f"the body has {declared:,} bytes; at most {limit:,} are taken")
        self._check_memory(0 if self.counts_unread_only else declared - self.counted_bytes)

    def _check_memory(self, more: int) -> None:
        state = self.connection.state
        if state.body_bytes + more > state.max_body_bytes:
            raise Overloaded("the bodies of all requests take the memory there is for them; try again shortly")

    async def _next(self) -> bytes:
        """The next part of the body, empty at its end."""
        while not self.chunks:
            if self.complete:
                return b""
            if self.connection.transport is None:
                raise ClientGone
            if self.body_error:
                raise BadRequest(self.body_error)
            if self.expect:
                self.expect = False
                self.connection.transport.write(CONTINUE)
            self.connection.resume()  # reading may have stopped because of the requests before this one
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        chunk = self.chunks.popleft()
        self.unread_bytes -= len(chunk)
        if self.counts_unread_only:
            self.release_bytes(len(chunk))
        if not self.complete and self.unread_bytes <= WINDOW // 2:
            self.connection.resume()
        return chunk

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer; does nothing if the request has an answer already, or its client has gone."""
        transport = self.connection.transport
        if self.status or transport is None:
            return
        head = self._head(status, headers, b"content-length: %d\r\n" % len(body))
        if self.method == "HEAD":
            body = b""
        if len(body) < MAX_COPY:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        self.connection.answered(self)

    def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Begin an answer of `length` bytes, None for a length that is not known yet.

        Raises ClientGone if the client has gone, or if the request has an answer already.
        """
        if self.status or self.connection.transport is None:
            raise ClientGone
        self.chunked = length is None and not self.http_1_0
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self.chunked:
            framing = b"transfer-encoding: chunked\r\n"
        else:  # in HTTP/1.0 the end of the connection is the end of such an answer
            framing, self.keep_alive = b"", False
        head = self._head(status, headers, framing)
        self.connection.transport.write(head)

    async def write(self, data: bytes) -> None:
        """Send the next part of an answer, and wait while the client is slow to read. Raises ClientGone."""
        transport = self.connection.transport
        if transport is None or transport.is_closing():  # closing: it takes bytes and drops them
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

    def abort(self) -> None:
        """Close the connection in the middle of this answer, so that it does not look whole."""
        if self.connection.current is self and self.connection.transport is not None:
            self.connection.transport.abort()

    def client_gone(self) -> None:
        """The client has closed the connection.

        A task that may not be cancelled goes on: Triton computes the answer to its end in any case, so the request
        keeps its place among those in flight until then.
        """
        self.cancel_after(0 if self.cancel else self.connection.state.timeout_seconds)
        self.wake()

    def cancel_after(self, seconds: float) -> None:
        """Cancel the task if it still runs after `seconds`: a Triton that never answers must not keep it for good."""
        if self.task is not None:
            asyncio.get_running_loop().call_later(seconds, self.task.cancel)

    def count_bytes(self, size: int) -> None:
        """Count so many bytes of the body as in memory."""
        self.counted_bytes += size
        self.connection.state.body_bytes += size

    def release_bytes(self, size: int) -> None:
        """Count so many bytes of the body as in memory no longer."""
        self.count_bytes(-size)

    def count_unread_only(self) -> None:
        """From now on count only the bytes that are not read yet: the application keeps no others."""
        self.counts_unread_only = True
        self.release_bytes(self.counted_bytes - self.unread_bytes)

    def wake(self) -> None:
        """Let the task look again whether more of the body has come."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def _head(self, status: int, headers: Headers, length: bytes) -> bytes:
        self.status = status
        state = self.connection.state
        if (state.draining and not self.connection.waiting) or not self.complete:
            self.keep_alive = False
        parts = [STATUS[status], state.date]
        parts += [b"%b: %b\r\n" % header for header in headers]
        parts.append(length)
        if not self.keep_alive:
            parts.append(b"connection: close\r\n\r\n")
        elif self.http_1_0:
            parts.append(b"connection: keep-alive\r\n\r\n")
        else:
            parts.append(b"\r\n")
        return b"".join(parts)
