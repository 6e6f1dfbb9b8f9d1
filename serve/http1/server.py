"""HTTP/1.1 on the public port: the connections of one worker, each request of which is handed to one coroutine.

Why not an ASGI server: a request that does nothing costs three times as much processor time there, and a client that
goes away, a deadline and a shutdown reach the request at once (D63 in docs/decisions.md). The parser is llhttp, through
httptools.
"""

from __future__ import annotations

import asyncio
import time

from serve.http1.connection import LINGER_SECONDS, App, Connection
from serve.http1.state import IDLE_SECONDS, ServerState


class Server:
    """The open connections of one worker."""

    def __init__(self, app: App, state: ServerState, max_connections: int) -> None:
        self.app = app
        self.state = state
        self.max_connections = max_connections
        self.connections: set[Connection] = set()

    def connection(self) -> Connection:
        """A new connection; asyncio calls this when a client connects."""
        return Connection(self.app, self.state, self.connections)

    def tick(self) -> None:
        """Several times a second: end requests that are too old, close connections that are idle for too long."""
        self.state.tick()
        # Idle connections are closed early when sockets run short.
        crowded = len(self.connections) >= 0.9 * self.max_connections
        self.state.idle_seconds = LINGER_SECONDS if crowded else IDLE_SECONDS
        for connection in list(self.connections):
            connection.check_limits()

    async def drain(self, seconds: float) -> None:
        """Answer the requests that have come, close every connection, and break off those left after `seconds`."""
        self.state.draining = True
        end = time.monotonic() + seconds
        for connection in self.connections:
            connection.since = time.monotonic()
        while self.connections and time.monotonic() < end:
            await asyncio.sleep(0.02)
            self.tick()
        for connection in list(self.connections):
            connection.abort()
