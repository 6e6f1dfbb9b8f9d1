"""HTTP to Triton for the data plane: a small pool of kept-alive connections on the event loop.

tritonclient's asynchronous clients are slower (docs/log.md): they make Python objects for each tensor and copy the
body. Here a request is one write, and an answer one buffer.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import httptools

from serve.errors import Unavailable
from serve.triton.address import KEY_HEADER, AddressReader

# Further requests wait in order, so that the number of sockets is bounded.
MAX_CONNECTIONS = 256
# The head of an answer to a request for inference, in the order Triton writes it.
USUAL = re.compile(
    rb"HTTP/1\.1 200 OK\r\nContent-Type: ([^\r\n]*)\r\n"
    rb"(?:Inference-Header-Content-Length: ([0-9]{1,10})\r\n)?Content-Length: ([0-9]{1,12})\r\n\r\n"
)


@dataclass(slots=True)
class TritonResponse:
    """Triton's answer; `header_length` is the length of the JSON header, None if the body is not in binary form."""

    status: int = 0
    body: bytes = b""
    content_type: bytes = b"application/json"
    header_length: int | None = None
    keep_alive: bool = False
    chunks: list[bytes] = field(default_factory=list)


class TritonConnection(asyncio.Protocol):
    """A kept-alive connection, which has one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[TritonResponse] | None = None
        self.response = TritonResponse()
        self.parser = httptools.HttpResponseParser(self)
        self.answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass of asyncio's

    def send(self, head: bytes, body: bytes) -> asyncio.Future[TritonResponse]:
        if self.transport is None:
            raise ConnectionResetError("Triton closed the connection")
        self.answer = self.loop.create_future()
        self.response = TritonResponse()
        self.answering = False
        self.transport.write(head + body if len(body) < 65536 else head)
        if len(body) >= 65536:  # too large to be copied
            self.transport.write(body)
        return self.answer

    def data_received(self, data: bytes) -> None:
        if not self.answering:
            self.answering = True
            # Nearly every answer comes in one piece and with these headers: this takes a fifth of the parser's time.
            head = USUAL.match(data)
            if head is not None and len(data) - head.end() == int(head[3]):
                content_type, header_length = head[1], head[2]
                length = None if header_length is None else int(header_length)
                self._answer(TritonResponse(200, data[head.end() :], content_type, length, True))
                return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"Triton's answer is not HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._fail(exc or ConnectionResetError("Triton closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)

    # httptools calls these
    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"inference-header-content-length":
            self.response.header_length = int(value)
        elif lowered == b"content-type":
            self.response.content_type = value

    def on_body(self, body: bytes) -> None:
        self.response.chunks.append(body)

    def on_message_complete(self) -> None:
        response = self.response
        response.status = self.parser.get_status_code()
        response.keep_alive = self.parser.should_keep_alive()  # read now, because the parser forgets it after this call
        response.body = response.chunks[0] if len(response.chunks) == 1 else b"".join(response.chunks)
        self._answer(response)

    def _answer(self, response: TritonResponse) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(response)


class TritonPool:
    """Sends requests to Triton on free connections, and opens new ones; for one event loop."""

    def __init__(self, address: AddressReader, max_connections: int = MAX_CONNECTIONS) -> None:
        self.address = address
        self._idle: list[TritonConnection] = []
        self._free = max_connections
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def request(
        self, method: bytes, path: str, body: bytes = b"", header_length: int | None = None, extra: bytes = b""
    ) -> TritonResponse:
        """Send a request and return its answer; `extra` are further lines of its head.

        `header_length` is that of a body in Triton's binary form. A connection that Triton had closed while it was idle
        costs nothing. Raises Unavailable if Triton cannot be reached or closes the connection without an answer.
        """
        if header_length is not None:
            extra += b"Inference-Header-Content-Length: %d\r\n" % header_length
        head = b"%b %b HTTP/1.1\r\nHost: triton\r\n%bContent-Length: %d\r\n\r\n" % (
            method, path.encode(), extra, len(body)
        )  # fmt: skip
        if self._free > 0:
            self._free -= 1
        else:
            await self._take_place()
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.transport is None:  # Triton closed it while it was idle
                    continue
                try:
                    return await self._exchange(connection, head, body)
                except ConnectionError:
                    if connection.answering:
                        raise
                    # Triton closed the connection before it read the request, so the request can be sent again.
            return await self._exchange(await self._connect(), head, body)
        except ConnectionError as error:
            raise Unavailable(f"the inference server dropped the request: {error}") from error
        finally:
            if self._waiting:
                self._give_place()
            else:
                self._free += 1

    async def index(self) -> TritonResponse:
        """Triton's list of models, for which Triton wants the key."""
        key = b"%b: %b\r\n" % (KEY_HEADER.encode(), self.address().key.encode())
        return await self.request(b"POST", "/v2/repository/index", extra=key)

    async def _exchange(self, connection: TritonConnection, head: bytes, body: bytes) -> TritonResponse:
        """Send a request on this connection, which becomes idle if the answer is whole, and is closed if not."""
        whole = False
        try:
            response = await connection.send(head, body)
            whole = response.keep_alive
            return response
        finally:
            if connection.transport is not None:
                if whole:
                    self._idle.append(connection)
                else:
                    connection.transport.abort()

    async def _connect(self) -> TritonConnection:
        try:
            at = self.address()
            _, connection = await asyncio.get_running_loop().create_connection(TritonConnection, at.host, at.http_port)
        except (OSError, ValueError) as error:
            raise Unavailable("the inference server is not ready; try again shortly") from error
        return connection

    async def _take_place(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it got the place in the same moment, and does not need it
                self._give_place()
            raise

    def _give_place(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
