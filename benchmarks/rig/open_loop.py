"""Load that does not wait for answers, from a process of its own: random arrivals, timed from when each was due.

A client that waits for one answer before it sends the next request asks less of a slow server, and so never sees how
long people would wait. Here requests fall due as a Poisson process whatever the server does, and the wait of one that
was sent late counts from when it was due. `lag_ms` says how late they were sent: where it is large, the generator
itself was short of CPU, and the figures tell little about the server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from benchmarks import ROOT

PROGRAM = ("-m", "benchmarks.rig.open_loop_process")
HOST = "127.0.0.1"
JSON_TYPE = "application/json"
MAX_CONNECTIONS = 2048
TIMEOUT_SECONDS = 20.0
LATE_MS = 10.0  # `lag_ms` beyond which a point is doubtful


@dataclass(frozen=True)
class Request:
    """One POST."""

    path: str
    body: bytes
    content_type: str = JSON_TYPE

    def encoded(self) -> bytes:
        head = f"POST {self.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {self.content_type}\r\n"
        return f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body


@dataclass(frozen=True)
class Stage:
    """So many requests a second for so long."""

    per_second: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What the process is told; with `waiting`, so many clients that wait for each answer take the stages' place."""

    port: int
    requests: Sequence[str]
    stages: Sequence[Stage]
    window: float
    connections: int = MAX_CONNECTIONS
    timeout: float = TIMEOUT_SECONDS
    waiting: int = 0
    seed: int = 0

    @classmethod
    def read(cls, text: str) -> Plan:
        values = json.loads(text)
        return cls(**{**values, "stages": [Stage(**stage) for stage in values["stages"]]})


def open_loop(
    port: int,
    requests: Sequence[Request],
    stages: Sequence[Stage],
    window: float = 0,
    connections: int = MAX_CONNECTIONS,
    timeout: float = TIMEOUT_SECONDS,
) -> Iterator[dict[str, Any]]:
    """Send the requests in turn, one stage after the other; the figures of each window, once all its answers are there.

    A window is a stage unless `window` has its length in seconds. Beside its figures it has `stage`, counted from 0,
    and `second`, its end. Raises click.ClickException if the process ends early.
    """
    yield from _ask(Plan(port, _texts(requests), stages, window, connections, timeout))


def closed_loop(port: int, requests: Sequence[Request], connections: int, seconds: float) -> dict[str, Any]:
    """The figures of so many clients, each with one request at a time. Raises click.ClickException as above."""
    plan = Plan(port, _texts(requests), [Stage(0, seconds)], 0, waiting=connections)
    (figures,) = _ask(plan)
    return figures


def _texts(requests: Sequence[Request]) -> list[str]:
    return [request.encoded().decode("latin-1") for request in requests]


def _ask(plan: Plan) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        told.write(json.dumps(asdict(plan)).encode())
        told.seek(0)
        command = [sys.executable, *PROGRAM]
        with subprocess.Popen(command, cwd=ROOT, stdin=told, stdout=subprocess.PIPE, stderr=said) as process:
            assert process.stdout is not None
            try:
                yield from map(json.loads, process.stdout)
            except BaseException:  # whoever reads the figures has enough of them
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            why = said.read().decode(errors="replace")[-2000:]
            raise click.ClickException(f"the load generator ended with {process.returncode}: {why}")
