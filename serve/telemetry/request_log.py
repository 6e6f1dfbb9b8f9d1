"""The log of requests: a JSON line each, without bodies, on stdout.

By default only failures of ours (5xx) are worth a line, and only so many in a second. Nothing here waits for stdout on
the event loop: lines are collected there, and a thread writes them. When nobody reads stdout, lines are lost and
counted, requests are not held up.

Several workers write to one stdout. POSIX keeps a write to a pipe together up to PIPE_BUF, 4,096 bytes on Linux, and
no further; so every write has whole lines and at most that many bytes, and no line can be longer.
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
# Failures come in thousands when they come, and say the same thing.
FAILURES_PER_SECOND = 20
# What may wait for somebody to read stdout.
MAX_WAITING_BYTES = 4 * 2**20
LAST_SECONDS = 2.0


def one_line(text: str, limit: int) -> str:
    """A text of somebody else's as it may stand in a log: bounded, and nothing in it that is not a visible sign."""
    text = text[:limit]
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)


def plain(text: str, limit: int) -> str:
    """The same for an id, which has ASCII only."""
    text = text[:limit]
    if text.isascii() and text.isprintable():
        return text
    return one_line(text, limit).encode("ascii", "replace").decode()


class RequestLog:
    """One worker's log of requests; `add` and `flush` are for the event loop."""

    def __init__(self, every: bool, fd: int = STDOUT) -> None:
        """`every` request, or only those answered with 5xx."""
        self.every, self._fd = every, fd
        self._lines: list[bytes] = []
        self._left_out = 0
        self._second, self._second_text, self._failures = -1, "", 0
        # What add has collected and what the thread is done with: each has one writer.
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
        """One request was answered; `error` is the message the caller got, never what the caller sent."""
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
        """Have what was collected written; returns at once."""
        if int(time.time()) != self._second:
            self._say_what_is_missing()
        if not self._lines:
            return
        if self._thread is None:  # most workers never have a line to write
            self._thread = threading.Thread(target=self._write, name="request log", daemon=True)
            self._thread.start()
        self._waiting.put(self._lines)
        self._lines = []

    def close(self) -> None:
        """Write what there is, unless nobody reads it."""
        self._say_what_is_missing()
        self.flush()
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(LAST_SECONDS)

    def _say_what_is_missing(self) -> None:
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
        """Now in UTC; the text of a second is made once."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._failures = second, 0
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((now - second) * 1000):03d}Z"

    def _write(self) -> None:
        """The thread."""
        complained = False
        while (lines := self._waiting.get()) is not None:
            for chunk in chunks(lines):
                try:
                    os.write(self._fd, chunk)
                except OSError as error:  # stdout is gone; there may be a stderr
                    if not complained:
                        log.error("cannot write the log of requests: %s", error.strerror)
                    complained = True
                self._written_bytes += len(chunk)


def chunks(lines: list[bytes]) -> Iterator[bytes]:
    """Whole lines together, as many as one write keeps together."""
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > select.PIPE_BUF:
            yield b"".join(chunk)
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
    yield b"".join(chunk)
