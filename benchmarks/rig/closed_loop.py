"""Light HTTP load: requests made beforehand, each sent from the callback of the answer before it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import cast

from serve.supervisor.ports import LOOPBACK

PATIENCE = 60


@dataclass(frozen=True)
class Load:
    """What one stretch of load gave: seconds of every request, and how long it took in all."""

    times: list[float]
    elapsed: float

    @property
    def rate(self) -> float:
        return len(self.times) / self.elapsed


def post(path: str, body: bytes, header_length: int | None = None) -> bytes:
    """A request, ready to be sent."""
    kind = f"Inference-Header-Content-Length: {header_length}" if header_length else "Content-Type: application/json"
    head = f"POST {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Caller(asyncio.Protocol):
    """One kept-alive connection; answers are not read but for their status and length."""

    def __init__(self, requests: list[bytes], first: int, end: float) -> None:
        self.requests, self.next, self.end = requests, first, end
        self.times: list[float] = []
        self.answer = b""
        self.missing = -1
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self.answer, self.missing = b"", -1
        request = self.requests[self.next]
        self.next = (self.next + 1) % len(self.requests)
        self.began = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self.missing < 0:
            self.answer += data
            head = self.answer.find(b"\r\n\r\n")
            if head < 0:
                return
            fields = self.answer[:head].lower()
            at = fields.find(b"\r\ncontent-length:")
            if not self.answer.startswith(b"HTTP/1.1 200") or at < 0:
                self._fail(RuntimeError(f"not answered: {self.answer[:500]!r}"))
                return
            stop = fields.find(b"\r\n", at + 2)
            length = int(fields[at + 17 : stop if stop > 0 else head])
            self.missing = head + 4 + length - len(self.answer)
        else:
            self.missing -= len(data)
        if self.missing == 0:
            now = time.perf_counter()
            self.times.append(now - self.began)
            if now < self.end:
                self._send()
            elif not self.done.done():
                self.done.set_result(None)
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def load(port: int, requests: list[bytes], concurrency: int, seconds: float) -> Load:
    """So many connections at once; each begins at another of the requests."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    callers: list[Caller] = []
    for number in range(concurrency):
        first = number * len(requests) // concurrency

        def make(first: int = first) -> Caller:
            return Caller(requests, first, began + seconds)

        _, caller = await loop.create_connection(make, LOOPBACK, port)
        callers.append(caller)
    await asyncio.wait_for(asyncio.gather(*(caller.done for caller in callers)), seconds + PATIENCE)
    return Load([each for caller in callers for each in caller.times], time.perf_counter() - began)
