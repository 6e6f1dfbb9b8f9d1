"""Turns the bytes of one connection into requests; the parser is llhttp, through httptools."""

from __future__ import annotations

import time
from typing import cast

import httptools

from serve.http1.request import WINDOW, ClientConnection, Request

# Bytes of a request's target and headers, or of the trailers behind its body; the signs around each header count.
MAX_HEAD = 65_536
# So many bytes more of a head or of trailers may come before they are complete: the rest of the first line, and spaces.
MAX_PADDING = 4096
# A body in more than MANY_PIECES pieces must have MIN_PIECE bytes in a piece on average: a piece costs the same time
# however small it is.
MANY_PIECES, MIN_PIECE = 65_536, 64


class Refused(Exception):
    """The bytes are no request, or exceed a limit of requests; no more is read from the connection."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RequestReader:
    """Appends each request to `connection.waiting` when its head is complete, and then its body as it comes."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.parser = httptools.HttpRequestParser(self)
        self.parsing: Request | None = None  # the request that is coming in
        self.head_bytes = 0  # bytes of a head, or of trailers, that are not complete
        self.field_bytes = 0  # the bytes of these that count, which do not depend on how the connection cuts them
        self.too_large = False  # a head, or trailers, had more than MAX_HEAD
        self.too_many_pieces = False
        self.ended = False  # further bytes are not for us

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the connection. Raises Refused."""
        if self.ended:
            return
        self.head_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            raise Refused(400, f"this is not HTTP: {error}") from error
        if self.too_many_pieces:
            raise Refused(400, "the body comes in too many chunks of a few bytes; send larger ones")
        if self.too_large or (self.head_bytes > MAX_HEAD + MAX_PADDING and self.parsing is not None):
            raise Refused(431, f"the request's head, or its trailers, have more than {MAX_HEAD:,} bytes")

    def _parse(self, data: bytes) -> None:
        """Feed the parser. Raises httptools.HttpParserError.

        A server may ignore that a request asks for another protocol (RFC 9110, 7.8). The parser does not: it ends such
        a request behind its head and would read the body as the next request. So the head is parsed once more, without
        its Upgrade.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self.too_large:
                    return
                request = self.connection.waiting[-1]
                if request.method == "CONNECT":  # further bytes are for the other end of a tunnel, which we do not open
                    request.keep_alive, self.ended = False, True
                    return
                self.connection.waiting.pop()
                self.parser = httptools.HttpRequestParser(self)
                data = _head_without_upgrade(request) + data[upgrade.args[0] :]

    # The parser calls the methods below.
    def on_message_begin(self) -> None:
        self.parsing = Request(self.connection)
        self.field_bytes = 0
        self.connection.since = self.connection.state.now

    def on_url(self, url: bytes) -> None:
        self.field_bytes += len(url)
        cast(Request, self.parsing).path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.field_bytes += len(name) + len(value) + 4  # for a colon, a space and the end of the line
        request = cast(Request, self.parsing)
        if request.started:  # a trailer; it is ignored, because proxies may not have checked it
            return
        headers = request.headers
        lowered = name.lower()
        if lowered == b"accept" and lowered in headers:
            value = headers[lowered] + b"," + value
        headers[lowered] = value

    def on_headers_complete(self) -> None:
        request = cast(Request, self.parsing)
        self.head_bytes = 0
        request.started = time.monotonic()
        request.method = self.parser.get_method().decode("latin-1")
        if not request.path.startswith(b"/"):  # http://host/path becomes /path; * and host:port become /
            request.path = b"/" + request.path.partition(b"://")[2].partition(b"/")[2]
        if b"?" in request.path:
            request.path, _, request.query = request.path.partition(b"?")
        request.keep_alive = self.parser.should_keep_alive()
        request.http_1_0 = self.parser.get_http_version() == "1.0"
        if request.headers.get(b"expect", b"").lower() == b"100-continue":
            request.expect = not request.http_1_0
        if self.field_bytes > MAX_HEAD:
            self.too_large = True
        self.field_bytes = 0
        if self.too_large:
            request.status = 431  # so `on_body` ignores its body
        else:
            self.connection.waiting.append(request)

    def on_body(self, body: bytes) -> None:
        request = cast(Request, self.parsing)
        if request.status:  # it was answered without this part
            return
        request.chunks.append(body)
        self.head_bytes = 0
        request.count_bytes(len(body))
        request.size += len(body)
        request.unread_bytes += len(body)
        request.pieces += 1
        self.too_many_pieces = request.pieces > MANY_PIECES and request.size < request.pieces * MIN_PIECE
        if request.unread_bytes > WINDOW:
            self.connection.pause()
        request.wake()

    def on_message_complete(self) -> None:
        request = cast(Request, self.parsing)
        if self.field_bytes > MAX_HEAD:  # its trailers; it stays without an end, as if they were still coming
            self.too_large = True
            return
        self.parsing = None
        self.head_bytes = 0
        request.complete = True
        request.wake()


def _head_without_upgrade(request: Request) -> bytes:
    """The head that a request would have if it did not ask for another protocol."""
    target = b"%b?%b" % (request.path, request.query) if request.query else request.path
    version = b"HTTP/1.0" if request.http_1_0 else b"HTTP/1.1"
    kept = [header for header in request.headers.items() if header[0] not in (b"connection", b"upgrade")]
    kept.append((b"connection", b"keep-alive" if request.keep_alive else b"close"))
    headers = b"".join(b"%b: %b\r\n" % header for header in kept)
    return b"%b %b %b\r\n%b\r\n" % (request.method.encode("latin-1"), target, version, headers)
