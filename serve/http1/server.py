"""HTTP/1.1 on the public port: the connections of one worker, each request of which is handed to one coroutine.

Why not an ASGI server: a request that does nothing costs 23 µs in one and 9 µs here, and a client that goes away, a
deadline and a shutdown reach the request at once (docs/decisions.md). The parser is llhttp, by httptools.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from email.utils import formatdate
from typing import Any, Protocol

from serve.http1.connection import LINGER_SECONDS, Connection
from serve.http1.request import Request

IDLE_SECONDS = 75.0


class App(Protocol):
    """What a server hands its requests to."""

    def __call__(self, request: Request) -> Coroutine[Any, Any, None]:
        """Answer a request."""

    def expire(self, request: Request) -> None:
        """The request is too old: answer it now, or break it off."""


class Server:
    """The open connections of one worker, and what they share."""

    def __init__(self, app: App, timeout_seconds: float, max_held: int, max_connections: int) -> None:
        self.app = app
        self.timeout_seconds = timeout_seconds
        self.max_held, self.held = max_held, 0  # bytes of bodies in memory
        self.max_connections = max_connections
        self.connections: set[Connection] = set()
        self.draining = False
        self.date = b""
        self.now = time.monotonic()  # as of the last tick: good enough for what is counted in seconds
        self.tick()

    def connection(self) -> Connection:
        """What asyncio calls for every new connection."""
        return Connection(self)

    def tick(self) -> None:
        """Several times a second: cancel what is too old, close what has been idle too long."""
        self.now = now = time.monotonic()
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        # Before sockets run out, those that nobody uses are given up.
        self.idle_seconds = IDLE_SECONDS if len(self.connections) < 0.9 * self.max_connections else LINGER_SECONDS
        for connection in list(self.connections):
            connection.check(now)

    async def drain(self, seconds: float) -> None:
        """Answer what has come, close every connection, and cut what is left after `seconds`."""
        self.draining = True
        end = time.monotonic() + seconds
        for connection in self.connections:
            connection.since = time.monotonic()
        while self.connections and time.monotonic() < end:
            await asyncio.sleep(0.02)
            self.tick()
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()
