"""The gunicorn worker: an event loop with the public port's connections on it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from contextlib import suppress

import uvloop
from gunicorn.workers.base import Worker as GunicornWorker

from serve.http1.server import Server
from serve.worker.application import Application

BACKLOG = 2048
TICK = 0.25
# Bodies that may be in memory at once: so many of the largest, and at least so many bytes.
BODIES, MAX_HELD = 4, 512 * 2**20
# For the connections to Triton, threads and files.
SPARE_FILES = 400
MOST_FILES = 1_000_000


class Worker(GunicornWorker):  # type: ignore[misc]
    """Serves an Application (serve/worker/application.py) until SIGTERM, then finishes what has come."""

    wsgi: Application

    def init_signals(self) -> None:
        # Python's defaults: gunicorn's handlers would end the process in the middle of requests.
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
        if self.wsgi.busy:  # with a load that hangs; Python would wait for its thread
            os._exit(0)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, stop.set)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most_files = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, hard))
        settings = self.wsgi.settings
        max_held = max(MAX_HELD, BODIES * settings.max_body_bytes)
        server = Server(self.wsgi, settings.timeout_seconds, max_held, max(most_files // 2, most_files - SPARE_FILES))
        self.wsgi.start(server)
        listening = [
            await loop.create_server(server.connection, sock=each.sock, backlog=BACKLOG) for each in self.sockets
        ]
        spare = [socket.socket(fileno=os.dup(each.sock.fileno())) for each in self.sockets]
        while not stop.is_set() and os.getppid() == self.ppid:
            self.notify()
            server.tick()
            self.wsgi.tick()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), TICK)
        # Nobody else has the sockets open any more: closing them is the end of the port.
        for one in (*listening, *self.sockets):
            one.close()
        server.draining = True
        self.wsgi.drain()
        taken = [connection for each in spare for connection in _take_what_waits(each)]
        for connection in taken:
            with suppress(OSError):  # its client may have gone
                await loop.connect_accepted_socket(server.connection, connection)
        ticks = loop.create_task(self._tick_on())
        await server.drain(self.cfg.graceful_timeout - 1)
        ticks.cancel()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:  # of clients that have gone
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1)
        self.wsgi.stop()

    async def _tick_on(self) -> None:
        while True:
            self.notify()
            self.wsgi.tick()
            await asyncio.sleep(TICK)


def _take_what_waits(listening: socket.socket) -> list[socket.socket]:
    """Accept the connections that the kernel has taken already, then close: those would be reset otherwise.

    In one go: whoever gets an answer meanwhile comes back at once, and there would be no end.
    """
    taken: list[socket.socket] = []
    listening.setblocking(False)
    while len(taken) < BACKLOG:
        try:
            taken.append(listening.accept()[0])
        except ConnectionAbortedError:
            continue
        except OSError:  # there is none left, or no file for one
            break
    listening.close()
    return taken
