"""HTTP to Triton for the data plane: a small pool of kept-alive connections on the event loop.

Why not tritonclient's asynchronous clients: see the comparison in docs/log.md. They build Python objects per tensor and
copy the body; here a request is one write and an answer one buffer.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httptools

from serve.errors import Unavailable
from serve.triton.address import KEY_HEADER, TritonAddress, current

# Requests beyond this many at a time wait here, in order, instead of opening sockets without end.
MAX_CONNECTIONS = 256
# The head of an answer to a request for inference, in the order Triton writes it.
USUAL = re.compile(
    rb"HTTP/1\.1 200 OK\r\nContent-Type: ([^\r\n]*)\r\n"
    rb"(?:Inference-Header-Content-Length: ([0-9]{1,10})\r\n)?Content-Length: ([0-9]{1,12})\r\n\r\n"
)


@dataclass(slots=True)
class TritonResponse:
    """Status, body, and the length of the JSON header where the body is in Triton's binary form."""

    status: int = 0
    body: bytes = b""
    content_type: bytes = b"application/json"
    header_length: int | None = None
    keep_alive: bool = False
    chunks: list[bytes] = field(default_factory=list)


class TritonConnection(asyncio.Protocol):
    """One kept-alive connection; one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[TritonResponse] | None = None
        self.response = TritonResponse()
        self.parser = httptools.HttpResponseParser(self)
        self.answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by behaviour, not by class

    def send(self, head: bytes, body: bytes) -> asyncio.Future[TritonResponse]:
        if self.transport is None:
            raise ConnectionResetError("Triton closed the connection")
        self.answer = asyncio.get_running_loop().create_future()
        self.response = TritonResponse()
        self.answering = False
        self.transport.write(head + body if len(body) < 65536 else head)
        if len(body) >= 65536:  # not worth a copy
            self.transport.write(body)
        return self.answer

    def data_received(self, data: bytes) -> None:
        if not self.answering:
            self.answering = True
            # Nearly every answer comes in one piece and with these headers; reading it so takes a fifth of the time.
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
        response.keep_alive = self.parser.should_keep_alive()  # asked later, the parser has forgotten this answer
        response.body = response.chunks[0] if len(response.chunks) == 1 else b"".join(response.chunks)
        self._answer(response)

    def _answer(self, response: TritonResponse) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(response)


class TritonPool:
    """`await request(method, path, body)` on a free connection; belongs to one event loop."""

    def __init__(self, address: TritonAddress | Path, max_connections: int = MAX_CONNECTIONS) -> None:
        """A file with the address is read for every new connection, for Triton may move."""
        self.address = address
        self._idle: list[TritonConnection] = []
        self._free = max_connections
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def request(
        self, method: bytes, path: str, body: bytes = b"", header_length: int | None = None, extra: bytes = b""
    ) -> TritonResponse:
        """One request, with `extra` lines in its head; connections that Triton had closed while they were idle are
        passed over.

        Raises Unavailable if Triton cannot be reached or drops the connection.
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
                    # Closed before a byte of an answer: Triton gave the connection up before it saw the request.
            return await self._exchange(await self._connect(), head, body)
        except ConnectionError as error:
            raise Unavailable(f"the inference server dropped the request: {error}") from error
        finally:
            if self._waiting:
                self._give_place()
            else:
                self._free += 1

    async def index(self) -> TritonResponse:
        """Triton's list of models, which needs the key."""
        key = b"%b: %b\r\n" % (KEY_HEADER.encode(), current(self.address).key.encode())
        return await self.request(b"POST", "/v2/repository/index", extra=key)

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()
        self._idle.clear()

    async def _exchange(self, connection: TritonConnection, head: bytes, body: bytes) -> TritonResponse:
        """One request on one connection, which goes back to the idle ones only after a whole answer."""
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
            at = current(self.address)
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
            if turn.done() and not turn.cancelled():  # the place was given in the same moment: hand it on
                self._give_place()
            raise

    def _give_place(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
