"""What the connections of one worker share: time limits, the time, and how many bytes of bodies are in memory."""

from __future__ import annotations

import time
from email.utils import formatdate

IDLE_SECONDS = 75.0


class ServerState:
    """Written by the server, read by its connections and requests, on one event loop."""

    def __init__(self, timeout_seconds: float, max_body_bytes: int) -> None:
        """`timeout_seconds` is the time limit of one request, `max_body_bytes` the limit of all bodies together."""
        self.timeout_seconds = timeout_seconds
        self.max_body_bytes = max_body_bytes
        self.body_bytes = 0  # of all bodies in memory
        self.draining = False  # the server stops: it answers the requests that have come, then closes every connection
        self.idle_seconds = IDLE_SECONDS  # after which a connection without a request is closed
        self.now = 0.0  # time.monotonic at the last tick: exact enough for limits of whole seconds
        self.date = b""  # the Date header at the last tick
        self.tick()

    def tick(self) -> None:
        """Take the time; the server calls this several times a second."""
        self.now = time.monotonic()
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
