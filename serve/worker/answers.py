"""Answers as the handlers return them, and the one place that sends them, compressed for callers that accept gzip."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from tempfile import SpooledTemporaryFile
from typing import NamedTuple

from serve.http1 import compression
from serve.http1.accept import accepts_gzip
from serve.http1.request import Headers, Request
from serve.worker.off_loop import off_loop
from serve.worker.sagemaker_headers import echoed

CHUNK = 262_144


class Whole(NamedTuple):
    """An answer in memory."""

    status: int
    headers: Headers
    body: bytes


class Stored(NamedTuple):
    """An answer with status 200 in a file, which `send` closes; the file's position is its end."""

    headers: Headers
    file: SpooledTemporaryFile[bytes]


class Streamed(NamedTuple):
    """An answer that is made while it is sent, such as a model's events; `send` calls `close` in any case."""

    status: int
    headers: Headers
    parts: AsyncGenerator[bytes, None]
    close: Callable[[], None]


async def send(request: Request, answer: Whole | Stored | Streamed) -> None:
    """Answer a request. Raises ClientGone."""
    headers = [*answer.headers, *echoed(request.headers)]
    if isinstance(answer, Streamed):  # gzip would keep events back until it has a block of them
        request.cancel = True
        try:
            async with aclosing(answer.parts) as parts:
                request.start(answer.status, headers)
                async for part in parts:
                    await request.write(part)
        finally:
            answer.close()  # a generator that was never started does not close what it reads
        request.end()
        return
    packs = accepts_gzip(request.headers.get(b"accept-encoding"))
    if isinstance(answer, Stored):
        with answer.file as file:
            length = file.tell()
            file.seek(0)
            if length > CHUNK:
                await _send_file(request, headers, file, length, packs)
                return
            answer = Whole(200, [], file.read())
    body = answer.body
    if packs and len(body) >= compression.MIN_GZIP_BYTES:
        headers.append((b"content-encoding", b"gzip"))
        body = await off_loop(len(body), compression.pack, body)
    request.respond(answer.status, headers, body)


async def _send_file(
    request: Request, headers: Headers, file: SpooledTemporaryFile[bytes], length: int, packs: bool
) -> None:
    request.cancel = True
    if not packs:
        request.start(200, headers, length)
        while chunk := file.read(CHUNK):
            await request.write(chunk)
    else:
        packer = compression.packer()
        request.start(200, [*headers, (b"content-encoding", b"gzip")])
        while chunk := file.read(CHUNK):
            await request.write(await off_loop(length, packer.compress, chunk))
        await request.write(packer.flush())
    request.end()
