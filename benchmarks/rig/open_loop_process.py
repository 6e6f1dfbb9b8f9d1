"""The process of open_loop.py: it reads a plan from standard input, and writes the figures of each window as JSON.

It imports little and works little for a request, because it shares the machine with the server that it measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import resource
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import numpy as np
import uvloop

from benchmarks.rig.open_loop import HOST, Plan

AHEAD_SECONDS = 0.05  # from the start of the process to its first request
SLOT_SECONDS = 0.0002  # requests that become due within it are sent together, which costs less
BURST = 64  # requests sent before answers are read again, if many are late
SWEEP_SECONDS = 0.25
ABSOLUTE = 1  # TFD_TIMER_ABSTIME


@dataclass
class Window:
    """The requests that are due between two times of the monotonic clock, and their results."""

    stage: int
    begin: float
    end: float
    due: np.ndarray[Any, np.dtype[np.float64]]
    pending: int
    accepted: array[float] = field(default_factory=lambda: array("d"))
    refused: array[float] = field(default_factory=lambda: array("d"))
    lags: array[float] = field(default_factory=lambda: array("d"))
    counts: Counter[str] = field(default_factory=Counter)
    last: float = 0
    cpu: float = 0  # CPU seconds of this process

    def answered(self, status: int, seconds: float, now: float) -> None:
        if status == 200:
            self.accepted.append(seconds)
            self.last = now
            return
        self.counts[str(status)] += 1
        if status == 503:
            self.refused.append(seconds)

    def figures(self, start: float) -> dict[str, Any]:
        """Rates are over the window, or until its last accepted answer if that came after the window's end."""
        offered = len(self.lags)
        failed = sum(count for code, count in self.counts.items() if not code.isdecimal())
        seconds = max(self.end, self.last) - self.begin
        ms = {f"p{share}_ms": quantile_ms(self.accepted, share) for share in (50, 90, 95, 99)}
        return {
            "stage": self.stage,
            "second": round(self.end - start, 3),
            "requests": offered,
            "offered_per_s": offered / (self.end - self.begin),
            "accepted_per_s": len(self.accepted) / seconds,
            "requests_per_s": (offered - failed) / seconds,
            "shed_share": len(self.refused) / max(1, offered),
            **ms,
            "longest_ms": quantile_ms(self.accepted, 100),
            "refused_p99_ms": quantile_ms(self.refused, 99),
            "errors": dict(self.counts),
            "lag_ms": quantile_ms(self.lags, 99),
            "generator_cores": self.cpu / (self.end - self.begin),
        }


def quantile_ms(seconds: array[float], share: float) -> float | None:
    return 1e3 * float(np.percentile(np.frombuffer(seconds), share)) if seconds else None


class Alarm:
    """A timer of the kernel, because the timers of the event loop are accurate to milliseconds only."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.file = self.libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, moment: float) -> None:
        seconds, rest = divmod(int(moment * 1e9), 1_000_000_000)
        self.libc.timerfd_settime(self.file, ABSOLUTE, (ctypes.c_long * 4)(0, 0, seconds, rest), None)

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.file, 8)


class Connection(asyncio.Protocol):
    """A connection that is kept alive, with at most one request in flight."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.window: Window | None = None
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.load.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.fail("no HTTP")

    def on_message_complete(self) -> None:
        window, self.window = self.window, None
        if window is None:  # an answer without a request
            self.fail("")
            return
        now = time.monotonic()
        window.answered(self.parser.get_status_code(), now - self.due, now)
        if self.parser.should_keep_alive():
            self.load.free.append(self)
        elif self.transport is not None:
            self.transport.close()
        self.load.done(window)

    def fail(self, why: str) -> None:
        """Close the connection; the request in flight on it, if any, counts as failed."""
        window, self.window = self.window, None
        if self.transport is not None:
            self.transport.abort()
        if window is not None:
            window.counts[why] += 1
            self.load.done(window)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.load.connections.discard(self)
        self.load.opened -= 1
        self.fail("closed")


class Load:
    """Sends the requests that are due, and prints the figures of every window that has all its answers."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = [text.encode("latin-1") for text in plan.requests]
        self.turn = 0
        self.connections: set[Connection] = set()
        self.free: list[Connection] = []  # a stack, so that a low rate needs few connections
        self.opened = 0  # connections, those being opened included
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()
        self.alarm = Alarm()
        self.start = time.monotonic() + AHEAD_SECONDS
        self.windows = list(windows(plan, self.start))
        self.left = len(self.windows)
        self.over = asyncio.Event()
        self.due = self.fall_due()
        self.window, self.next = next(self.due)

    async def run(self) -> None:
        self.loop.add_reader(self.alarm.file, self.send_due)
        self.alarm.set(self.next)
        sweep = self.loop.create_task(self.sweep())
        await self.over.wait()
        sweep.cancel()

    def fall_due(self) -> Iterator[tuple[Window, float]]:
        for window in self.windows:
            began = time.process_time()
            for moment in window.due.tolist():
                yield window, moment
            window.cpu = time.process_time() - began

    def send_due(self) -> None:
        self.alarm.clear()
        for _ in range(BURST):
            now = time.monotonic()
            if self.next > now:
                break
            self.send(self.window, self.next, now)
            following = next(self.due, None)
            if following is None:
                return
            self.window, self.next = following
        self.alarm.set(max(self.next, time.monotonic() + SLOT_SECONDS))

    def send(self, window: Window, due: float, now: float) -> None:
        window.lags.append(now - due)
        request = self.requests[self.turn]
        self.turn = (self.turn + 1) % len(self.requests)
        while self.free:
            connection = self.free.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                connection.window, connection.due = window, due
                connection.transport.write(request)
                return
        if self.opened >= self.plan.connections:
            window.counts["no connection"] += 1
            self.done(window)
            return
        self.opened += 1
        task = self.loop.create_task(self.open(window, due, request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def open(self, window: Window, due: float, request: bytes) -> None:
        opening = self.loop.create_connection(lambda: Connection(self), HOST, self.plan.port)
        try:
            transport, connection = await asyncio.wait_for(opening, self.plan.timeout)
        except (OSError, asyncio.TimeoutError):
            self.opened -= 1
            window.counts["connect"] += 1
            self.done(window)
            return
        if connection.transport is None:  # the server closed it already
            window.counts["closed"] += 1
            self.done(window)
            return
        connection.window, connection.due = window, due
        transport.write(request)

    def done(self, window: Window) -> None:
        """Count a request as finished; with `waiting`, its client sends the next one."""
        window.pending -= 1
        if self.plan.waiting and (now := time.monotonic()) < window.end:
            window.pending += 1
            self.send(window, now, now)
        if not window.pending:
            self.write(window)

    def write(self, window: Window) -> None:
        if self.plan.waiting:
            window.cpu = time.process_time()
        print(json.dumps(window.figures(self.start)), flush=True)
        self.left -= 1
        if not self.left:
            self.over.set()

    async def sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            oldest = time.monotonic() - self.plan.timeout
            for connection in [*self.connections]:
                if connection.window is not None and connection.due < oldest:
                    connection.fail("timeout")


def windows(plan: Plan, start: float) -> Iterator[Window]:
    """The windows of all stages, with the times at which requests are due."""
    random = np.random.default_rng(plan.seed)
    for number, stage in enumerate(plan.stages):
        count = max(1, round(stage.seconds / plan.window)) if plan.window else 1
        seconds = stage.seconds / count
        for _ in range(count):
            arrivals = plan.waiting or max(1, random.poisson(stage.per_second * seconds))
            spread = 0 if plan.waiting else seconds
            due = np.sort(start + random.uniform(0, spread, arrivals))
            yield Window(number, start, start + seconds, due, arrivals)
            start += seconds


async def send(plan: Plan) -> None:
    await Load(plan).run()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a high rate needs many sockets
    gc.disable()  # a collection would make requests late, and no objects here refer to each other in cycles
    uvloop.install()
    asyncio.run(send(Plan.read(sys.stdin.read())))
