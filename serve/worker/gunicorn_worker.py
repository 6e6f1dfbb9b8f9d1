"""The gunicorn worker: an event loop with the public port's connections on it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import time
from contextlib import suppress
from typing import Any

import uvloop
from gunicorn.workers.base import Worker as GunicornWorker
from gunicorn.workers.workertmp import WorkerTmp

from serve.http1.server import Server
from serve.worker.application import Application

BACKLOG = 2048
TICK_SECONDS = 0.25
# Of the files that a process may have open, so many are not for clients: connections to Triton, and files on disk.
SPARE_FILES = 400
MAX_FILES = 1_000_000
# gunicorn looks at its workers every second. After a longer pause it was frozen, and they with it.
FROZEN_SECONDS = 5.0


class SignOfLife(WorkerTmp):  # type: ignore[misc]
    """The time of a worker's last sign of life; gunicorn kills a worker after 30 s without one.

    AWS Lambda freezes all processes between requests, for minutes. When they go on, gunicorn may look before the worker
    gives its next sign, so after a pause in gunicorn's own looking the time counts anew.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.looked = self.thawed = time.monotonic()

    def last_update(self) -> float:
        now = time.monotonic()
        if now - self.looked > FROZEN_SECONDS:
            self.thawed = now
        self.looked = now
        return float(max(super().last_update(), self.thawed))


class Worker(GunicornWorker):  # type: ignore[misc]
    """Serves an Application (serve/worker/application.py) until SIGTERM, then answers the requests that have come."""

    wsgi: Application
    tmp: WorkerTmp

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tmp.close()
        self.tmp = SignOfLife(self.cfg)

    def init_signals(self) -> None:
        """Set Python's default handlers, which `_serve` replaces; gunicorn's would end the process amid requests."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, self.handle_usr1)

    def run(self) -> None:
        """gunicorn calls this in the worker's process."""
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._serve())
        finally:
            loop.close()
        if self.wsgi.in_threads:  # a load still runs or hangs, and Python would wait for the end of its thread
            os._exit(0)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, stop.set)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        max_files = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, hard))
        server = Server(self.wsgi, self.wsgi.state, max(max_files // 2, max_files - SPARE_FILES))
        self.wsgi.start()
        listening = [
            await loop.create_server(server.connection, sock=each.sock, backlog=BACKLOG) for each in self.sockets
        ]
        copies = [socket.socket(fileno=os.dup(each.sock.fileno())) for each in self.sockets]
        while not stop.is_set() and os.getppid() == self.ppid:
            self.notify()
            server.tick()
            self.wsgi.tick()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), TICK_SECONDS)
        # From here on nothing is accepted; `copies` keep the kernel's queue until it is emptied below.
        for each in (*listening, *self.sockets):
            each.close()
        self.wsgi.state.draining = True
        self.wsgi.drain()
        accepted = [connection for each in copies for connection in _accept_all(each)]
        for connection in accepted:
            with suppress(OSError):  # its client may have gone
                await loop.connect_accepted_socket(server.connection, connection)
        ticks = loop.create_task(self._tick_on())
        await server.drain(self.cfg.graceful_timeout - 1)
        ticks.cancel()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:  # of clients that are gone
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1)
        self.wsgi.stop()

    async def _tick_on(self) -> None:
        while True:
            self.notify()
            self.wsgi.tick()
            await asyncio.sleep(TICK_SECONDS)


def _accept_all(listening: socket.socket) -> list[socket.socket]:
    """Accept all connections in the kernel's queue, then close the socket; closing it first would reset them.

    No request is answered meanwhile: a client with an answer would connect again at once, and the queue would never
    become empty.
    """
    accepted: list[socket.socket] = []
    listening.setblocking(False)
    while len(accepted) < BACKLOG:
        try:
            accepted.append(listening.accept()[0])
        except ConnectionAbortedError:
            continue
        except OSError:  # the queue is empty, or this process may open no more files
            break
    listening.close()
    return accepted
