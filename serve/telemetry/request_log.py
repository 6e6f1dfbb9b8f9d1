"""The log of requests: a line of JSON for each request, without its body, on stdout.

By default only requests answered with 5xx are logged, and only a number of them a second. The event loop collects the
lines and a thread writes them, so no request waits for stdout. If nobody reads stdout, lines are left out and counted.

Several workers write to the same stdout. Linux keeps a write to a pipe together only up to PIPE_BUF, 4,096 bytes; so
each write has whole lines and at most that many bytes, and no line can be longer.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Iterator

import orjson

log = logging.getLogger("serve")

STDOUT = 1
MAX_ID, MAX_TRACE, MAX_MODEL, MAX_ERROR = 256, 128, 256, 200
# Failures often come in thousands with the same message.
FAILURES_PER_SECOND = 20
# The size of the lines that may wait until stdout is read.
MAX_WAITING_BYTES = 4 * 2**20
LAST_SECONDS = 2.0


def one_line(text: str, limit: int) -> str:
    """A text from outside, safe for a log: at most `limit` characters, and ? for those that are not printable."""
    text = text[:limit]
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)


def plain(text: str, limit: int) -> str:
    """The same for an id: characters that are not ASCII become ?, too."""
    text = text[:limit]
    if text.isascii() and text.isprintable():
        return text
    return one_line(text, limit).encode("ascii", "replace").decode()


class RequestLog:
    """One worker's log of requests; only the event loop may call `add` and `flush`."""

    def __init__(self, every: bool, fd: int = STDOUT) -> None:
        """`every`: whether all requests are logged, or only those answered with 5xx."""
        self.every, self._fd = every, fd
        self._lines: list[bytes] = []
        self._left_out = 0
        self._second, self._second_text, self._failures = -1, "", 0
        # Bytes that `add` has collected and bytes that the thread has written; only that method or thread changes each.
        self._collected_bytes, self._written_bytes = 0, 0
        self._waiting: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(
        self,
        request_id: str,
        model: str,
        kind: str,
        status: int,
        seconds: float,
        error: str = "",
        trace_id: str = "",
    ) -> None:
        """Log a request that was answered; `error` is the message in its answer, never a part of its body."""
        if status < 500 and not self.every:
            return
        now = self._time()
        self._failures += 1
        if (self._failures > FAILURES_PER_SECOND and not self.every) or self._too_much():
            self._left_out += 1
            return
        entry: dict[str, object] = {
            "time": now,
            "request_id": plain(request_id, MAX_ID),
            "model": plain(model, MAX_MODEL),
            "kind": kind,
            "status": status,
            "ms": round(seconds * 1000, 3),
        }
        if trace_id:
            entry["trace_id"] = plain(trace_id, MAX_TRACE)
        if error:
            entry["error"] = one_line(error, MAX_ERROR)
        self._collect(entry)

    def flush(self) -> None:
        """Pass the collected lines to the thread; returns at once."""
        if int(time.time()) != self._second:
            self._note_left_out()
        if not self._lines:
            return
        if self._thread is None:  # most workers never have a line to write
            self._thread = threading.Thread(target=self._write, name="request log", daemon=True)
            self._thread.start()
        self._waiting.put(self._lines)
        self._lines = []

    def close(self) -> None:
        """Write the remaining lines; give up after LAST_SECONDS if nobody reads stdout."""
        self._note_left_out()
        self.flush()
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(LAST_SECONDS)

    def _note_left_out(self) -> None:
        if self._left_out and not self._too_much():
            self._collect({"time": self._time(), "left_out": self._left_out})
            self._left_out = 0

    def _too_much(self) -> bool:
        return self._collected_bytes - self._written_bytes > MAX_WAITING_BYTES

    def _collect(self, entry: dict[str, object]) -> None:
        line = orjson.dumps(entry) + b"\n"
        self._collected_bytes += len(line)
        self._lines.append(line)

    def _time(self) -> str:
        """The time in UTC; the text is made only once for each second."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._failures = second, 0
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((now - second) * 1000):03d}Z"

    def _write(self) -> None:
        """Runs in the thread."""
        complained = False
        while (lines := self._waiting.get()) is not None:
            for chunk in chunks(lines):
                try:
                    os.write(self._fd, chunk)
                except OSError as error:  # stdout is closed; stderr may be open
                    if not complained:
                        log.error("the log of requests cannot be written to stdout: %s", error.strerror)
                    complained = True
                self._written_bytes += len(chunk)


def chunks(lines: list[bytes]) -> Iterator[bytes]:
    """The lines in groups of at most PIPE_BUF bytes."""
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > select.PIPE_BUF:
            yield b"".join(chunk)
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
    yield b"".join(chunk)
