"""Open-loop load: requests are sent at random times that do not depend on the answers, by a process of its own.

A client that waits for each answer sends fewer requests to a slow server, and so hides how long users would wait. Here
requests become due as a Poisson process, and the wait of a request that was sent late counts from the time at which it
was due. `lag_ms` is how late requests were sent: if it is large, the generator lacked CPU time, and the figures tell
little about the server.
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
LATE_MS = 10.0  # a point with a larger `lag_ms` is doubtful


@dataclass(frozen=True)
class Request:
    """A POST request."""

    path: str
    body: bytes
    content_type: str = JSON_TYPE

    def encoded(self) -> bytes:
        head = f"POST {self.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {self.content_type}\r\n"
        return f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body


@dataclass(frozen=True)
class Stage:
    """A rate of requests and how long it lasts."""

    per_second: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """The input of the process: requests as HTTP text, stages, and the length of a window in seconds (0: a stage).

    With `waiting`, that many clients send the next request when they have an answer, instead of the stages' rates.
    """

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
    """Send the requests in turn, one stage after the other; yield the figures of a window when it has all its answers.

    `window` is the length of a window in seconds, by default that of its stage. The figures include `stage`, counted
    from 0, and `second`, the end of the window. Raises click.ClickException if the process ends early.
    """
    yield from _run(Plan(port, _texts(requests), stages, window, connections, timeout))


def closed_loop(port: int, requests: Sequence[Request], connections: int, seconds: float) -> dict[str, Any]:
    """The figures of clients that each send one request at a time. Raises click.ClickException if the process fails."""
    plan = Plan(port, _texts(requests), [Stage(0, seconds)], 0, waiting=connections)
    (figures,) = _run(plan)
    return figures


def _texts(requests: Sequence[Request]) -> list[str]:
    return [request.encoded().decode("latin-1") for request in requests]


def _run(plan: Plan) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryFile() as plan_file, tempfile.TemporaryFile() as errors:
        plan_file.write(json.dumps(asdict(plan)).encode())
        plan_file.seek(0)
        command = [sys.executable, *PROGRAM]
        with subprocess.Popen(command, cwd=ROOT, stdin=plan_file, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            try:
                yield from map(json.loads, process.stdout)
            except BaseException:  # the caller stopped reading
                process.kill()
                raise
        if process.returncode:
            errors.seek(0)
            why = errors.read().decode(errors="replace")[-2000:]
            raise click.ClickException(f"the load generator ended with {process.returncode}: {why}")
