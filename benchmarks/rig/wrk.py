"""Load from wrk, a real load tool, in short rounds that go from server to server, and the CPU time each round cost."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import sys
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
    """A server's path for requests; `process` is the one that has started all of its others."""

    name: str
    port: int
    path: str
    process: int | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}{self.path}"


@dataclass(frozen=True)
class Round:
    """What one stretch of load gave."""

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
    """Cores that were busy with what is neither wrk nor a server of ours: a measure of how quiet the machine was."""
    errors: dict[str, int] = field(default_factory=dict)
    """How many by status, or by what befell the connection."""

    def figures(self, rows: int) -> dict[str, Any]:
        """As the points of `make bench` have them; `rows` a request."""
        return {
            "requests_per_s": self.rate,
            "rows_per_s": rows * self.rate,
            **{name: value for name, value in asdict(self).items() if name != "rate"},
        }


def find_wrk() -> str | None:
    """wrk's path: on PATH, or where `benchmarks/tools/get_wrk.sh` puts it."""
    return shutil.which("wrk") or shutil.which("wrk", path=FETCHED)


def require_wrk() -> None:
    """End with exit code 2 where wrk is missing."""
    if find_wrk() is None:
        click.echo(
            "wrk is missing: benchmarks/tools/get_wrk.sh (Debian, Ubuntu) or https://github.com/wg/wrk", err=True
        )
        sys.exit(2)


def wrk(
    target: Target,
    bodies: Sequence[bytes],
    connections: int,
    seconds: int,
    cores: frozenset[int] = frozenset(),
    content_type: str = JSON_TYPE,
    count_errors: bool = False,
) -> Round:
    """So many connections at once, kept alive, each with one request at a time; on `cores` alone if some are given.

    The bodies are sent in turn.
    Raises click.ClickException unless every request was answered, and by no error that is not to be counted.
    """
    with tempfile.NamedTemporaryFile(prefix="bench-bodies-") as file:
        file.write(b"\0".join(bodies))
        file.flush()
        pinned = ["taskset", "-c", ",".join(map(str, sorted(cores)))] if cores else []
        command = [
            *pinned, find_wrk() or "wrk", "--threads", "1", "--connections", str(connections),
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
    # Where answers are counted by status, `status` says the same again.
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
    """CPU time by role once the server is done with what wrk has left behind: a request a connection, at its end."""
    spent = cpu_seconds(target.process)
    for _ in range(SETTLE_STEPS):
        time.sleep(SETTLE_SECONDS)
        before, spent = spent, cpu_seconds(target.process)
        if sum(spent.values()) - sum(before.values()) < SETTLE_SECONDS / 4:
            break
    return spent


def ask(target: Target, body: bytes, content_type: str = JSON_TYPE) -> Any:
    """The answer to one request, as JSON where it is; raises click.ClickException for any other than 200."""
    connection = http.client.HTTPConnection(LOOPBACK, target.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", target.path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        read = answer.read()
    if answer.status != 200:
        raise click.ClickException(f"{target.name} answers {answer.status}: {read[:500]!r}")
    return json.loads(read) if JSON_TYPE in answer.headers.get("Content-Type", JSON_TYPE) else read
