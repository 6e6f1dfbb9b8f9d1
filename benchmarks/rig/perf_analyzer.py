"""NVIDIA's perf_analyzer: finds it, runs one point that is stable at p99, and reads what it reports."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median_high
from typing import Any

import click

from benchmarks import ROOT
from benchmarks.rig.processes import unrelated_seconds
from serve.supervisor.ports import LOOPBACK

FOLDER = ROOT / ".venv" / "perf_analyzer"
SCRIPT = "benchmarks/tools/get_perf_analyzer.sh"
STABLE_PERCENT, TRIALS, WINDOWS = 30, 5, 3  # throughput and p99 of the last three windows are compared
LATE_PERCENT = 5  # of an open loop's requests, that may be sent late
ANY_PERCENT = 1_000_000
# Before it begins it prepares every entry of the input file as a request, once a thread: a thread for each of 64
# connections takes 40 s for large requests. Two that wait for nothing keep up with the server, and an open loop's
# requests leave in time however many are not answered yet.
THREADS = ("--async", "--max-threads", "2")
# The rows of a request are consecutive entries of the input file, from its end on to its beginning, and the next
# request goes on where the last one stopped (seen in the requests it sends). A prime number of entries, more than rows
# in a request, therefore gives as many different requests as there are entries, each of different rows.
ENTRIES = 1_031


@dataclass(frozen=True)
class Analyzer:
    """The program, and the environment in which it finds its libraries."""

    program: Path
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Load:
    """Closed loop with `concurrency` requests in flight, or open loop with `rate` requests a second."""

    model: str
    protocol: str
    batch: int
    concurrency: int = 0
    rate: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a point takes; one that was not stable has figures and an error."""

    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    command: str = ""


def find_analyzer() -> Analyzer:
    """What `benchmarks/tools/get_perf_analyzer.sh` fetched, else the one on PATH. Raises click.ClickException."""
    environment = dict(os.environ)
    program = FOLDER / "bin" / "perf_analyzer"
    if program.exists():
        environment["LD_LIBRARY_PATH"] = str(FOLDER / "lib")
    elif on_path := shutil.which("perf_analyzer"):
        program = Path(on_path)
    else:
        raise click.ClickException(f"there is no perf_analyzer; fetch it: {SCRIPT}")
    try:
        tried = subprocess.run(
            [program, "--version"], env=environment, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise click.ClickException(f"{program} does not start: {error}; fetch another: {SCRIPT}") from error
    if tried.returncode:
        raise click.ClickException(
            f"{program} does not start: {first_line(tried.stderr or tried.stdout)}; fetch another: {SCRIPT}"
        )
    return Analyzer(program, environment)


def write_input(path: Path, inputs: Mapping[str, int], entries: int = ENTRIES, seed: int = 0) -> Path:
    """Random indices for each input, from 0 to below the number given for it."""
    drawn = random.Random(seed)
    data = [{name: [drawn.randrange(count)] for name, count in inputs.items()} for _ in range(entries)]
    path.write_text(json.dumps({"data": data}))
    return path


def measure(analyzer: Analyzer, load: Load, port: int, data: Path, seconds: float, again: bool = True) -> Outcome:
    """One point: windows of a third of `seconds`, until three in a row agree.

    Where they never do three more are taken (`again`) and reported as they are. If those do not agree either, the point
    has figures and an error that begins with "unstable:".
    """
    began, before = time.monotonic(), unrelated_seconds()
    outcome = _once(analyzer, load, port, data, seconds, STABLE_PERCENT, TRIALS)
    if again and outcome.error.startswith("unstable:"):
        second = _once(analyzer, load, port, data, seconds, ANY_PERCENT, WINDOWS)
        outcome = second if second.figures else outcome
    others = (unrelated_seconds() - before) / (time.monotonic() - began)
    figures = {**outcome.figures, "others": max(0.0, others)} if outcome.figures else {}
    if not outcome.error and not figures.get("kept_up", True):
        late = f"{figures.get('delayed_percent', 0):.0f} % of its requests were sent late"
        said = f"fell behind the {load.rate:.0f} requests/s that were asked for: {late}; give it cores of its own"
        outcome = replace(outcome, error=said)
    return replace(outcome, figures=figures)


def sample(analyzer: Analyzer, load: Load, port: int, data: Path, seconds: float) -> Outcome:
    """Three windows as they are, whether they agree or not: to warm up, or where rounds tell how steady it is."""
    outcome = _once(analyzer, load, port, data, seconds, ANY_PERCENT, WINDOWS)
    return replace(outcome, error="") if outcome.figures else outcome


def _once(analyzer: Analyzer, load: Load, port: int, data: Path, seconds: float, percent: int, trials: int) -> Outcome:
    window = max(300, round(1000 * seconds / WINDOWS))
    with tempfile.TemporaryDirectory(prefix="perf-analyzer-") as scratch:
        report = Path(scratch) / "report.csv"
        arguments = [
            "-m", load.model, "-i", load.protocol, "-u", f"{LOOPBACK}:{port}", "-b", str(load.batch),
            *loop(load), *THREADS, "--input-data", str(data), "--percentile=99", "--stability-percentage", str(percent),
            "--measurement-interval", str(window), "--max-trials", str(trials),
            "-v", "--verbose-csv", "-f", str(report),
        ]  # fmt: skip
        command = " ".join(["perf_analyzer", *(Path(each).name if "/" in each else each for each in arguments)])
        limit = 10 + 2 * trials * window / 1000
        try:
            ran = subprocess.run(
                [str(analyzer.program), *arguments],
                env=analyzer.environment, capture_output=True, text=True, timeout=limit, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:  # above what the server can do it waits for all that it has sent
            error = f"perf_analyzer did not end in {limit:.0f} s; ask for less load, or look into the server's log"
            said = late.stdout.decode() if isinstance(late.stdout, bytes) else ""
            return Outcome(parse(said, "", load), error, command)
        figures = parse(ran.stdout, report.read_text() if report.exists() else "", load)
    error = failure(ran.returncode, ran.stdout + ran.stderr, window)
    if load.rate and error.startswith("perf_analyzer ended") and not figures.get("kept_up", True):
        error = f"fell behind the {load.rate:.0f} requests/s that were asked for: {error}"
    return Outcome(figures, error, command)


def loop(load: Load) -> list[str]:
    if load.concurrency:
        return ["--concurrency-range", str(load.concurrency)]
    return ["--request-rate-range", f"{load.rate:.1f}", "--request-distribution", "poisson"]


def failure(code: int, said: str, window: int) -> str:
    """Why there is no stable measurement, in one line; empty if there is one."""
    seen = passes(said)
    if "Failed to obtain stable measurement" in said or (code == 0 and not agree(seen)):
        p99 = ", ".join(f"{ms:.3g}" for ms in seen["p99_ms"])
        return (
            f"unstable: {WINDOWS} windows of {window} ms never agreed within {STABLE_PERCENT} % (p99 {p99} ms); "
            "give it an idle machine or longer --seconds"
        )
    if code:
        lines = [line for line in said.splitlines() if re.search("error|fail", line, re.IGNORECASE)]
        return f"perf_analyzer ended with {code}: {first_line(lines[-1] if lines else said)}"
    return ""


def agree(seen: Mapping[str, list[float]]) -> bool:
    """Whether throughput and p99 of the last three windows differ by no more than they may.

    perf_analyzer itself looks at the throughput alone where it does not wait for answers.
    """
    last = [values[-WINDOWS:] for values in seen.values()]
    return all(len(values) == WINDOWS and max(values) <= (1 + STABLE_PERCENT / 100) * min(values) for values in last)


def passes(said: str) -> dict[str, list[float]]:
    """Rows a second and p99 of each window."""
    found = re.findall(r"Pass \[\d+\] throughput: ([\d.e+]+) infer/sec\. p99 latency: (\d+) usec", said)
    return {"rows_per_s": [float(rows) for rows, _ in found], "p99_ms": [int(us) / 1000 for _, us in found]}


def parse(said: str, report: str, load: Load) -> dict[str, Any]:
    """Figures from its report in CSV and from what it prints; without a report the medians of its windows, if any."""
    rows = list(csv.DictReader(report.splitlines()))
    figures: dict[str, Any] = {name: median_high(values) for name, values in passes(said).items() if values}
    if rows:
        row = rows[0]
        figures = {
            "rows_per_s": float(row["Inferences/Second"]),  # for it multiplies requests by the batch
            **{f"p{part}_ms": float(row[f"p{part} latency"]) / 1000 for part in (50, 90, 95, 99)},
            "server_queue_us": float(row["Server Queue"]),
            "server_infer_us": float(row["Server Compute Infer"]),
        }
    if not figures:
        return {}
    figures["requests_per_s"] = figures["rows_per_s"] / load.batch
    if count := re.search(r"Request count: (\d+)", said):
        figures["requests"] = int(count[1])
    if load.rate:
        found = re.search(r"([\d.]+)% of the requests were delayed", said)
        delayed = float(found[1]) if found else 0.0
        figures["asked_per_s"] = load.rate
        # Arrivals are random: of n expected, fewer by three times their root say nothing.
        least = load.rate * (1 - 3 / math.sqrt(max(1, figures.get("requests", 0))))
        figures["kept_up"] = bool(rows) and delayed < LATE_PERCENT and figures["requests_per_s"] >= least
        if rows:
            figures["delayed_percent"] = delayed
    return figures


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
