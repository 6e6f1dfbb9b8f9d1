"""An answer of Triton that comes in parts, on a connection of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import httptools

from serve.errors import Unavailable
from serve.triton.address import AddressReader

# Bytes that are read ahead of a slow caller.
WINDOW = 1 << 20


class TritonStream(asyncio.Protocol):
    """An answer in parts: call `open`, look at `status` and `content_type`, call `next` until it is empty, `close`."""

    def __init__(self) -> None:
        self.status = 0
        self.content_type = b""
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._parts: deque[bytes] = deque()
        self._ahead = 0
        self._ended = self._lost = False
        self._waiter: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, address: AddressReader, path: str, body: bytes, extra: bytes) -> TritonStream:
        """Send a request and wait for the head of the answer. Raises Unavailable."""
        try:
            at = address()
            _, stream = await asyncio.get_running_loop().create_connection(cls, at.host, at.http_port)
        except (OSError, ValueError) as error:
            raise Unavailable("the inference server is not ready; try again shortly") from error
        head = b"POST %b HTTP/1.1\r\nHost: triton\r\n%bContent-Length: %d\r\n\r\n" % (path.encode(), extra, len(body))
        cast(asyncio.Transport, stream._transport).writelines((head, body))
        try:
            while not stream.status:
                if stream._lost:
                    raise Unavailable("the inference server dropped the request")
                await stream._more()
        except BaseException:  # nobody waits for the answer any more
            stream.close()
            raise
        return stream

    async def next(self) -> bytes:
        """The bytes that came since the last call; empty at the end. Raises Unavailable if Triton closes before it."""
        while not self._parts:
            if self._ended:
                return b""
            if self._lost:
                raise Unavailable("the inference server dropped the request")
            await self._more()
        data = b"".join(self._parts)
        self._parts.clear()
        if self._ahead > WINDOW and self._transport is not None:
            self._transport.resume_reading()
        self._ahead = 0
        return data

    async def all(self) -> bytes:
        """All further bytes. Raises Unavailable if Triton closes the connection before the end."""
        parts = []
        while part := await self.next():
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the connection; Triton cancels the request if it is not finished."""
        if self._transport is not None:
            self._transport.abort()

    async def _more(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._lost = True
            self.close()
        self._wake()

    # httptools calls these
    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.content_type = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._ahead += len(body)
        if self._ahead > WINDOW and self._transport is not None:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self._ended = True
