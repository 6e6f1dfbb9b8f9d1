"""Load from wrk in short rounds, and the CPU time that each round cost the server."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks import ROOT
from benchmarks.rig.processes import cpu_seconds, unrelated_seconds
from serve.supervisor.ports import LOOPBACK

FETCHED = ROOT / ".venv/wrk"
SCRIPT = Path(__file__).with_suffix(".lua")
JSON_TYPE = "application/json"
SETTLE_SECONDS, SETTLE_STEPS = 0.05, 20


@dataclass(frozen=True)
class Target:
    """A path of a server; `process` is the id of the process that started all its other processes."""

    name: str
    port: int
    path: str
    process: int | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}{self.path}"


@dataclass(frozen=True)
class Round:
    """The results of one stretch of load."""

    requests: int
    rate: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    longest_ms: float
    cpu_us: dict[str, float] = field(default_factory=dict)
    """CPU time a request, by role."""
    others: float = 0
    """The number of cores that processes other than wrk and the servers kept busy."""
    errors: dict[str, int] = field(default_factory=dict)
    """Failed requests by status, or by what failed: connect, read, write, timeout."""

    def figures(self, rows: int) -> dict[str, Any]:
        """The figures of a point; `rows` is the number of rows in a request."""
        return {
            "requests_per_s": self.rate,
            "rows_per_s": rows * self.rate,
            **{name: value for name, value in asdict(self).items() if name != "rate"},
        }


def find_wrk() -> str:
    """The path of wrk: on PATH, or where `benchmarks/tools/get_wrk.sh` puts it. Raises click.ClickException."""
    found = shutil.which("wrk") or shutil.which("wrk", path=FETCHED)
    if found is None:
        raise click.ClickException(
            "wrk is missing; run: benchmarks/tools/get_wrk.sh (Debian, Ubuntu), or build it: https://github.com/wg/wrk"
        )
    return found


def wrk(
    target: Target,
    bodies: Sequence[bytes],
    connections: int,
    seconds: int,
    cores: frozenset[int] = frozenset(),
    content_type: str = JSON_TYPE,
    count_errors: bool = False,
) -> Round:
    """Send the bodies in turn on that many connections, each with one request at a time; wrk runs on `cores`, if given.

    Raises click.ClickException if no request was answered, or if one failed and `count_errors` is not set.
    """
    with tempfile.NamedTemporaryFile(prefix="bench-bodies-") as file:
        file.write(b"\0".join(bodies))
        file.flush()
        pinned = ["taskset", "-c", ",".join(map(str, sorted(cores)))] if cores else []
        command = [
            *pinned, find_wrk(), "--threads", "1", "--connections", str(connections),
            "--duration", f"{seconds}s", "--timeout", "20s", "--script", str(SCRIPT), target.url,
            "--", file.name, content_type, *(["codes"] if count_errors else []),
        ]  # fmt: skip
        before, unrelated, began = cpu_seconds(target.process), unrelated_seconds(), time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        elapsed, unrelated = time.monotonic() - began, unrelated_seconds() - unrelated
        after = settled(target)
    lines = ended.stdout.strip().splitlines()
    if ended.returncode or not lines or not lines[-1].startswith("{"):
        raise click.ClickException(f"wrk ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
    found: dict[str, Any] = json.loads(lines[-1])
    errors: dict[str, int] = {code: count for code, count in found["codes"].items() if code != "200"}
    # Where answers are counted by status, `status` would count the same errors again.
    faults = ("connect", "read", "write", "timeout", *(() if count_errors else ("status",)))
    errors |= {name: found[name] for name in faults if found[name]}
    if not found["requests"] or (errors and not count_errors):
        raise click.ClickException(f"{target.name}, {connections} connections: {errors} of {found['requests']} answers")
    return Round(
        found["requests"],
        1e6 * found["requests"] / found["duration"],
        found["p50"] / 1e3,
        found["p90"] / 1e3,
        found["p95"] / 1e3,
        found["p99"] / 1e3,
        found["longest"] / 1e3,
        {role: 1e6 * (spent - before.get(role, 0)) / found["requests"] for role, spent in after.items()},
        max(0.0, unrelated / elapsed),
        errors,
    )


def settled(target: Target) -> dict[str, float]:
    """CPU seconds by role when the server has finished the last requests, for which wrk does not wait."""
    spent = cpu_seconds(target.process)
    for _ in range(SETTLE_STEPS):
        time.sleep(SETTLE_SECONDS)
        before, spent = spent, cpu_seconds(target.process)
        if sum(spent.values()) - sum(before.values()) < SETTLE_SECONDS / 4:
            break
    return spent


def ask(target: Target, body: bytes, content_type: str = JSON_TYPE) -> Any:
    """The answer to one request, decoded if it is JSON. Raises click.ClickException for a status other than 200."""
    connection = http.client.HTTPConnection(LOOPBACK, target.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", target.path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        read = answer.read()
    if answer.status != 200:
        raise click.ClickException(f"{target.name} answers {answer.status}: {read[:500]!r}")
    return json.loads(read) if JSON_TYPE in answer.headers.get("Content-Type", JSON_TYPE) else read
