"""One connection of the public port: from bytes to requests, in order, and when to let go of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from serve.http1.request import STATUS, WINDOW, Request

if TYPE_CHECKING:
    from serve.http1.server import Server

MAX_HEAD = 65_536
# A body in crumbs costs as much a crumb as a whole one.
MAX_CRUMBS, CRUMB = 65_536, 64
HEAD_SECONDS = 60.0
# For a client to take some of its answer.
STALL_SECONDS = 60.0
# SageMaker lets an answer stream for eight minutes.
STREAM_SECONDS = 480.0
# For the rest of a body that was refused: closing at once would take the answer away from the client that still sends.
DISCARD_SECONDS = 5.0
# For requests on their way to a connection that is about to be closed.
LINGER_SECONDS = 1.0


class Connection(asyncio.Protocol):
    """One connection; its requests are answered one after the other, in order."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.loop = asyncio.get_running_loop()
        self.parsing: Request | None = None  # the request that is coming in
        self.current: Request | None = None  # the request that is being answered
        self.waiting: deque[Request] = deque()  # requests behind it
        self.head = 0  # bytes of a head that has not come whole
        self.since = server.now  # when the connection became idle, or a head began
        self.paused = self.discarding = self.ended = False
        self.writable: asyncio.Future[None] | None = None
        self.after: Request | None = None  # the last one answered, whose answer the client has not taken yet
        self.closing = False
        self.unsent = 0  # bytes of answers, at the last look

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by behaviour, not by class
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.server.connections.discard(self)
        self._drop_waiting()
        if self.current is not None:
            self.current.gone()
        self.resume_writing()

    def eof_received(self) -> bool:
        """The client sends no more, and may still wait for its answers: whether to keep the connection for them."""
        self.ended = True
        if self.current is not None and not self.current.complete:
            self.current.fault = "the connection was closed before the body was whole"
            self.current.wake()
        elif self.waiting and not self.waiting[-1].complete:
            self._forget(self.waiting.pop())
        return self.current is not None or self.after is not None

    def pause_writing(self) -> None:
        self.writable = self.loop.create_future()
        self.since = time.monotonic()

    def resume_writing(self) -> None:
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None
        if self.after is not None and self.transport is not None:
            request, self.after = self.after, None
            self._go_on(request)

    def data_received(self, data: bytes) -> None:
        if self.discarding:
            return
        self.head += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # not taken; what follows the request would be in another protocol
            for request in (self.parsing, self.current, *self.waiting):
                if request is not None:
                    request.keep_alive = False
        except httptools.HttpParserError as error:
            if self.current is None and self.waiting and self.after is None:  # what came before it is answered
                self._start()
            self.refuse(400, f"this is not HTTP: {error}")
            return
        if self.head > MAX_HEAD and self.parsing is not None:
            self.refuse(431, f"the request's head, or what follows its body, has more than {MAX_HEAD:,} bytes")
            return
        if self.current is None and self.waiting and self.after is None:
            self._start()
        elif len(self.waiting) > 1:
            self.pause()

    def _start(self) -> None:
        self.current = request = self.waiting.popleft()
        request.task = self.loop.create_task(self.server.app(request))

    def answered(self, request: Request) -> None:
        """Go on after an answer: with the next request, or with closing."""
        if request is not self.current:  # it was answered when its time was over
            return
        self.current = None
        self.since = time.monotonic() if self.server.draining else self.server.now
        if self.writable is not None:  # a client that takes no answers gets no more of them
            self.after = request
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
        """A request that will not be answered."""
        request.let_go(request.held)
        request.status = 499  # what still comes of it is passed over

    def _close(self) -> None:
        self.closing = True
        if self.transport is not None:
            self.transport.close()

    def refuse(self, status: int, message: str) -> None:
        """Answer what is no request, and close."""
        self.discarding = True
        self.since = time.monotonic()
        if self.current is None and self.transport is not None:
            body = b'{"error":"%b","code":"bad_request"}' % message.replace('"', "'").encode()
            self.transport.write(
                b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (STATUS[status], self.server.date, len(body), body)
            )
        elif self.current is not None:
            self.current.keep_alive = False
            self.current.fault = message
            self.current.wake()

    def check(self, now: float) -> None:
        """Whether something has taken too long."""
        request = self.current
        if self.transport is None:
            return
        if self.writable is not None or self.closing:
            if self.transport.get_write_buffer_size() != self.unsent:  # the client takes it, if slowly
                self.since, self.unsent = now, self.transport.get_write_buffer_size()
            elif now - self.since > STALL_SECONDS:
                self.transport.abort()
        elif request is not None:
            limit = self.server.timeout_seconds
            if request.status:  # it is being answered: a stream
                limit = max(limit, STREAM_SECONDS)
            if now - request.started > limit:
                self.server.app.expire(request)
        elif self.discarding or self.parsing is not None:
            if now - self.since > (DISCARD_SECONDS if self.discarding or self.server.draining else HEAD_SECONDS):
                self.transport.abort()
        elif now - self.since > (LINGER_SECONDS if self.server.draining else self.server.idle_seconds):
            self._close()

    def pause(self) -> None:
        if not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.paused and self.transport is not None:
            self.paused = False
            self.transport.resume_reading()

    # httptools calls these
    def on_message_begin(self) -> None:
        self.parsing = Request(self)
        self.since = self.server.now

    def on_url(self, url: bytes) -> None:
        cast(Request, self.parsing).path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        request = cast(Request, self.parsing)
        if request.started:  # a trailer: nobody has looked at it on its way here
            return
        headers = request.headers
        lowered = name.lower()
        if lowered == b"accept" and lowered in headers:
            value = headers[lowered] + b"," + value
        headers[lowered] = value

    def on_headers_complete(self) -> None:
        request = cast(Request, self.parsing)
        self.head = 0
        request.started = time.monotonic()
        request.method = self.parser.get_method().decode("latin-1")
        if not request.path.startswith(b"/"):  # http://host/path is allowed, and * and host:port are no paths of ours
            request.path = b"/" + request.path.partition(b"://")[2].partition(b"/")[2]
        if b"?" in request.path:
            request.path, _, request.query = request.path.partition(b"?")
        request.keep_alive = self.parser.should_keep_alive()
        request.http_1_0 = self.parser.get_http_version() == "1.0"
        if request.headers.get(b"expect", b"").lower() == b"100-continue":
            request.expect = not request.http_1_0
        self.waiting.append(request)

    def on_body(self, body: bytes) -> None:
        request = cast(Request, self.parsing)
        if request.status:  # it was answered without this
            return
        request.chunks.append(body)
        self.head = 0
        request.hold(len(body))
        request.size += len(body)
        request.ahead += len(body)
        request.pieces += 1
        if request.pieces > MAX_CRUMBS and request.size < request.pieces * CRUMB and not self.discarding:
            self.refuse(400, "the body comes in too many chunks of a few bytes; send larger ones")
        if request.ahead > WINDOW:
            self.pause()
        request.wake()

    def on_message_complete(self) -> None:
        request = cast(Request, self.parsing)
        self.parsing = None
        self.head = 0
        request.complete = True
        request.wake()
