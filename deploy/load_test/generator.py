"""The steps of a test, and the processes that send them: Python has one processor for each process."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from deploy.client import NcfClient
from deploy.client.retries import Retries
from deploy.errors import WorldError
from deploy.load_test.figures import Limits, Step, measured
from deploy.load_test.open_loop import Ask, Sent, Share, send

MOST_PROCESSES = 8
AHEAD_SECONDS = 0.1  # from the order of a step to its first request
LEAST_WAITING, MOST_WAITING = 64, 2000  # requests; each has a thread
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 10.0, 65.0  # seconds; SageMaker itself gives up after 60


@dataclass(frozen=True)
class Aim:
    """An endpoint by its name, or a URL, and what else a request names."""

    target: str
    region: str | None = None
    content_type: str = "application/json"
    target_model: str = ""
    target_container: str = ""
    target_variant: str = ""

    def ask(self, seconds: float, connections: int = 1) -> Ask:
        """Sends a body, once. Raises AskError."""
        client = NcfClient(
            self.target, region=self.region, seconds=seconds, connections=connections, retries=Retries(attempts=1),
            target_model=self.target_model, target_container=self.target_container, target_variant=self.target_variant,
        )  # fmt: skip
        return lambda body: client.invoke(body, self.content_type)


def timeout(limits: Limits) -> float:
    """Seconds after which a request counts as not answered."""
    return min(LONGEST_TIMEOUT, max(SHORTEST_TIMEOUT, 5 * limits.p99_ms / 1000))


def rates(first: float, growth: float, most: float | None) -> Iterator[float]:
    """Requests a second of each step: `growth` times those of the step before, up to `most` itself, or without end."""
    rate = first
    while most is None or rate < most:
        yield rate
        rate *= growth
    yield most


class Generator:
    """Context manager: a process for each processor, from the first step to the last."""

    def __init__(self, aim: Aim, bodies: Sequence[bytes], limits: Limits) -> None:
        self._limits = limits
        self._count = min(MOST_PROCESSES, os.cpu_count() or 1)
        self._arguments = (aim, bodies, timeout(limits))
        self._sent = 0

    def __enter__(self) -> Generator:
        context = get_context("spawn")  # a fork would share the connections and threads of this process
        self._pipes: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        # Ctrl-C reaches all processes: this one takes it and ends the others, which inherit that they ignore it.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for _ in range(self._count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
                process.start()
                theirs.close()  # so that the end of the process is the end of the pipe
                self._pipes.append(ours)
                self._processes.append(process)
        finally:
            signal.signal(signal.SIGINT, handler)
        try:
            with _all_alive():
                for pipe in self._pipes:
                    pipe.recv()  # it is ready
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *about: object) -> None:
        for process in self._processes:
            process.kill()  # it has nothing to lose: what it measured is here
            process.join()

    def step(self, rate: float, seconds: float) -> Step:
        """Send so many requests a second for so long, and wait for their answers. Raises WorldError."""
        total = max(1, round(rate * seconds))
        most = min(MOST_WAITING, max(LEAST_WAITING, math.ceil(2 * rate * self._limits.p99_ms / 1000)))
        start = time.monotonic() + AHEAD_SECONDS
        with _all_alive():
            for number, pipe in enumerate(self._pipes):
                count = total // self._count + (number < total % self._count)
                pipe.send(Share(count, start, seconds, self._sent, math.ceil(most / self._count)))
                self._sent += count
            parts: list[Sent] = [pipe.recv() for pipe in self._pipes]
        return measured(rate, start, seconds, parts)


@contextmanager
def _all_alive() -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise WorldError(
            "a process of the load generator has ended; is memory short? Lower --p99-ms or --max-rate"
        ) from error


def _work(pipe: Connection, aim: Aim, bodies: Sequence[bytes], seconds: float) -> None:
    """Say that it is ready, then send share after share."""
    ask = aim.ask(seconds, MOST_WAITING)
    pipe.send(None)
    while True:
        try:
            share: Share = pipe.recv()
        except EOFError:
            return
        pipe.send(send(share, bodies, ask))
