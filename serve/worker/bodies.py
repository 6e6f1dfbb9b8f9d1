"""The body of a request as the handlers see it: without its Content-Encoding, whole or in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator

from serve.http1 import compression
from serve.http1.request import Request
from serve.worker.negotiation import HEAD_BYTES
from serve.worker.off_loop import off_loop

MAX_RATIO = 1032  # a body in gzip unpacks to so many times its size at most
PART_BYTES = 65_536


class RequestBody:
    """Ask for `head` first, then either for `whole` or for `parts`."""

    def __init__(self, request: Request, limit: int) -> None:
        """`limit` is the most bytes of the body, packed and unpacked; every method raises BodyTooLarge beyond it, and
        ClientGone."""
        self._request = request
        self._limit = limit
        self._whole: bytes | None = None  # without its Content-Encoding; None while it may still be coming

    async def head(self) -> bytes:
        """The first HEAD_BYTES bytes, or all bytes of a shorter body, however the body arrives."""
        encoding = self._request.headers.get(b"content-encoding")
        if encoding is None:
            if self._request.is_small(min(HEAD_BYTES, self._limit)):  # most requests
                self._whole = await self._request.body(self._limit)
                return self._whole
            return await self._request.peek(HEAD_BYTES, self._limit)
        packed = await self._request.body(self._limit)
        size = min(MAX_RATIO * len(packed), self._limit)
        self._whole = await off_loop(size, compression.unpack, packed, encoding, self._limit)
        self._request.count_bytes(len(self._whole) - self._request.counted_bytes)
        return self._whole[:HEAD_BYTES]

    async def whole(self) -> bytes:
        return await self._request.body(self._limit) if self._whole is None else self._whole

    async def parts(self) -> AsyncIterator[bytes]:
        """The body in parts, each of which leaves the memory when the next one is asked for."""
        if self._whole is None:
            request = self._request
            request.count_unread_only()
            async for part in request.stream(self._limit):
                yield part
        else:
            for start in range(0, len(self._whole), PART_BYTES):
                yield self._whole[start : start + PART_BYTES]
