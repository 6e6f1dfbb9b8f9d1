"""One connection of the public port: it has its requests answered in order, and knows when to close.

A request is `waiting` from the end of its head, and `current` while it is answered, which may begin before its body is
complete.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from serve.http1.reader import Refused, RequestReader
from serve.http1.request import STATUS, Request
from serve.http1.state import ServerState

# From the first byte of a head to its last.
HEAD_SECONDS = 60.0
# Without the client taking a single byte of its answer.
STALL_SECONDS = 60.0
# SageMaker lets an answer stream for eight minutes.
STREAM_SECONDS = 480.0
# For the rest of a refused body: if we closed at once, the client that still sends would lose the answer.
DISCARD_SECONDS = 5.0
# For requests on their way to an idle connection, before it is closed because the server stops or sockets run short.
LINGER_SECONDS = 1.0


class App(Protocol):
    """The application that answers the requests."""

    def __call__(self, request: Request) -> Coroutine[Any, Any, None]:
        """Answer a request."""

    def expire(self, request: Request) -> None:
        """End a request whose time is over: answer it now, or break its answer off."""


class Connection(asyncio.Protocol):
    """One connection; its requests are answered one after the other, in order."""

    def __init__(self, app: App, state: ServerState, connections: set[Connection]) -> None:
        """`connections` has this connection as long as it is open."""
        self.app = app
        self.state = state
        self.connections = connections
        self.transport: asyncio.Transport | None = None
        self.reader = RequestReader(self)
        self.loop = asyncio.get_running_loop()
        self.current: Request | None = None  # the request that is being answered
        self.waiting: deque[Request] = deque()  # the requests behind it
        self.since = state.now  # when the connection became idle, a head began, or the client last took bytes
        self.paused = False  # we read nothing
        self.discarding = False  # we read and ignore further bytes, until the connection is closed
        self.ended = False  # the client sends no more
        self.closing = False
        self.writable: asyncio.Future[None] | None = None
        self.unsent: Request | None = None  # an answered request; its client has yet to take most of the answer
        self.buffer_bytes = 0  # bytes that were still to be sent when we last looked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's class behaves like it and does not inherit it
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.connections.discard(self)
        self._drop_waiting()
        if self.current is not None:
            self.current.client_gone()
        self.resume_writing()

    def eof_received(self) -> bool:
        """The client sends no more, and may still read; true keeps the connection open for its answers."""
        self.ended = True
        if self.current is not None and not self.current.complete:
            self.current.body_error = "the connection was closed before the body was complete"
            self.current.wake()
        elif self.waiting and not self.waiting[-1].complete:
            self._forget(self.waiting.pop())
        return self.current is not None or self.unsent is not None

    def pause_writing(self) -> None:
        self.writable = self.loop.create_future()
        self.since = time.monotonic()

    def resume_writing(self) -> None:
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None
        if self.unsent is not None and self.transport is not None:
            request, self.unsent = self.unsent, None
            self._go_on(request)

    def data_received(self, data: bytes) -> None:
        if self.discarding:
            return
        try:
            self.reader.feed(data)
        except Refused as refused:
            if self._may_start():  # a request that came before
                self._start()
            self._refuse(refused)
            return
        if self._may_start():
            self._start()
        elif len(self.waiting) > 1:
            self.pause()

    def _may_start(self) -> bool:
        return self.current is None and self.unsent is None and bool(self.waiting)

    def _start(self) -> None:
        self.current = request = self.waiting.popleft()
        request.task = self.loop.create_task(self.app(request))

    def answered(self, request: Request) -> None:
        """The whole answer was written: go on with the next request, or close."""
        if request is not self.current:  # it was answered when its time was over
            return
        self.current = None
        self.since = time.monotonic() if self.state.draining else self.state.now
        if self.writable is not None:  # no further answers for a client that does not read
            self.unsent = request
        elif self.transport is not None:
            self._go_on(request)

    def _go_on(self, request: Request) -> None:
        if request.keep_alive and self.waiting:
            self._start()
        elif request.keep_alive and not self.ended:
            self.resume()
        else:
            self._drop_waiting()
            if request.complete or self.ended:
                self._close()
            else:
                self.discarding = True
                self.resume()

    def _drop_waiting(self) -> None:
        while self.waiting:
            self._forget(self.waiting.pop())

    def _forget(self, request: Request) -> None:
        """A request that will not be answered: its body is not kept."""
        request.release_bytes(request.counted_bytes)
        request.status = 499  # so `on_body` ignores the rest of its body

    def _close(self) -> None:
        self.closing = True
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        if self.transport is not None:
            self.transport.abort()

    def _refuse(self, refused: Refused) -> None:
        """Answer bytes that are no request, and close; a request that is being answered gets its answer first."""
        self.discarding = True
        self.since = time.monotonic()
        if self.current is not None:
            self.current.keep_alive = False
            self.current.body_error = str(refused)
            self.current.wake()
        elif self.transport is not None:
            self._drop_waiting()
            body = b'{"error":"%b","code":"bad_request"}' % str(refused).replace('"', "'").encode()
            self.transport.write(
                b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (STATUS[refused.status], self.state.date, len(body), body)
            )

    def check_limits(self) -> None:
        """End whatever has taken too long: a request, a client that does not read, a head, an idle connection."""
        request, state = self.current, self.state
        if self.transport is None:
            return
        idle = state.now - self.since
        if request is not None and state.now - request.started > self._limit(request):
            self.app.expire(request)
        elif self.writable is not None or self.closing:
            if self.transport.get_write_buffer_size() != self.buffer_bytes:  # the client reads, if slowly
                self.since, self.buffer_bytes = state.now, self.transport.get_write_buffer_size()
            elif idle > STALL_SECONDS:
                self.abort()
        elif request is not None:
            return
        elif self.discarding or self.reader.parsing is not None:
            if idle > (DISCARD_SECONDS if self.discarding or state.draining else HEAD_SECONDS):
                self.abort()
        elif idle > (LINGER_SECONDS if state.draining else state.idle_seconds):
            self._close()

    def _limit(self, request: Request) -> float:
        """The seconds that a request may take; more for an answer that has begun, which is a stream."""
        return max(self.state.timeout_seconds, STREAM_SECONDS) if request.status else self.state.timeout_seconds

    def pause(self) -> None:
        """Read no more for now."""
        if not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.paused and self.transport is not None:
            self.paused = False
            self.transport.resume_reading()
