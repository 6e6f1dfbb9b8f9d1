"""The HTTP front in this process: real sockets on the loopback interface, and an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import uvloop

from serve.http1.connection import App
from serve.http1.server import Server
from serve.http1.state import ServerState
from serve.models.served import SERVED_FILE, Served
from serve.settings import Settings
from serve.telemetry.counts import TALLY_FOLDER
from serve.worker.application import Application

T = TypeVar("T")


class Front:
    """Context manager: an application behind the front, on a free port."""

    def __init__(self, app: App, state: ServerState | None = None, max_connections: int = 1000) -> None:
        self.state = state or ServerState(30.0, 2**29)
        self.server = Server(app, self.state, max_connections)
        self.loop = uvloop.new_event_loop()
        self.clients: list[socket.socket] = []
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Front:
        self.thread.start()
        self.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
        for client in self.clients:
            client.close()

    async def _start(self) -> None:
        self.listening = await self.loop.create_server(self.server.connection, "127.0.0.1", 0)
        self.port = self.listening.sockets[0].getsockname()[1]
        self.ticking = self.loop.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            self.server.tick()
            await asyncio.sleep(0.02)

    async def _stop(self) -> None:
        self.ticking.cancel()
        self.listening.close()
        await self.server.drain(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=5)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs on the front's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def num_tasks(self) -> int:
        """How many requests have a task."""

        async def count() -> int:
            return len(asyncio.all_tasks() - {asyncio.current_task(), self.ticking})

        return self.run(count())

    def connect(self) -> socket.socket:
        """A client, which is closed with the front at the latest."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self.clients.append(client)
        return client

    def exchange(self, *segments: bytes) -> bytes:
        """Send segments, the last of them with a request to close, and return all that comes back."""
        with self.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number, segment in enumerate(segments):
                if number:
                    time.sleep(0.05)  # so that the front reads the segments one by one
                connection.sendall(segment)
            return read_all(connection)


class Worker(Front):
    """The application as a worker runs it; `environment` has its settings."""

    def __init__(self, scratch: Path, **environment: str) -> None:
        if not (scratch / SERVED_FILE).exists():
            Served(ready=True).write(scratch / SERVED_FILE)
        settings = Settings.from_environment({"SERVE_TIMEOUT_SECONDS": "0.5", **environment})
        (scratch / TALLY_FOLDER).mkdir(exist_ok=True)
        self.application = Application(settings, scratch)
        super().__init__(self.application, self.application.state)

    async def _start(self) -> None:
        await super()._start()
        self.application.start()

    async def _stop(self) -> None:
        await super()._stop()
        self.application.stop()

    def ask(self, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to one request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *headers]
        head, _, answer = self.exchange("\r\n".join([*lines, "", ""]).encode() + body).partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        return int(status.split()[1]), dict(field.split(": ", 1) for field in fields), answer


def read_all(connection: socket.socket) -> bytes:
    """Everything until the front closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def read_until(connection: socket.socket, word: bytes) -> bytes:
    """Everything up to and including the segment in which `word` is complete."""
    answer = b""
    while word not in answer:
        part = connection.recv(65536)
        assert part, answer
        answer += part
    return answer
