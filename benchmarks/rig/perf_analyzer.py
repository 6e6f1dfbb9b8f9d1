"""NVIDIA's perf_analyzer: find it, measure one point until p99 is stable, and read its report."""

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
from ncf.export.query import Query
from serve.supervisor.ports import LOOPBACK

FOLDER = ROOT / ".venv" / "perf_analyzer"
SCRIPT = "benchmarks/tools/get_perf_analyzer.sh"
STABLE_PERCENT, TRIALS, WINDOWS = 30, 5, 3  # stable: throughput and p99 of the last 3 windows differ by at most 30 %
LATE_PERCENT = 5  # share of the requests of an open loop that may be sent late
ANY_PERCENT = 1_000_000
# perf_analyzer first prepares every entry of the input file as a request, once for each of its threads, which takes
# 40 s with a thread for each of 64 connections and large requests. Two asynchronous threads send as much as the server
# answers, and send an open loop's requests in time however many are not answered yet.
THREADS = ("--async", "--max-threads", "2")
# The rows of a request are consecutive entries of the input file, and the next request continues after them, from the
# end of the file at its beginning (observed in its requests). With a prime number of entries, larger than the number of
# rows in a request, there are therefore as many different requests as entries, each with different rows.
ENTRIES = 1_031


@dataclass(frozen=True)
class Analyzer:
    """The path of the program, and the environment variables with which it finds its libraries."""

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
    """The result of a point; a point that is not stable has both figures and an error."""

    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    command: str = ""


def find_analyzer() -> Analyzer:
    """The perf_analyzer that get_perf_analyzer.sh fetched, else that on PATH. Raises click.ClickException."""
    environment = dict(os.environ)
    program = FOLDER / "bin" / "perf_analyzer"
    if program.exists():
        environment["LD_LIBRARY_PATH"] = str(FOLDER / "lib")
    elif on_path := shutil.which("perf_analyzer"):
        program = Path(on_path)
    else:
        raise click.ClickException(f"perf_analyzer is missing; run: {SCRIPT}")
    try:
        tried = subprocess.run(
            [program, "--version"], env=environment, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise click.ClickException(f"{program} does not start: {error}; fetch it again: {SCRIPT}") from error
    if tried.returncode:
        raise click.ClickException(
            f"{program} does not start: {first_line(tried.stderr or tried.stdout)}; fetch it again: {SCRIPT}"
        )
    return Analyzer(program, environment)


def write_input(path: Path, inputs: Mapping[str, int], entries: int = ENTRIES, seed: int = 0) -> Path:
    """Write random entries; the indices of each input are below its number in `inputs`."""
    drawn = random.Random(seed)
    data = [{name: [drawn.randrange(count)] for name, count in inputs.items()} for _ in range(entries)]
    path.write_text(json.dumps({"data": data}))
    return path


def write_users(path: Path, users: int, entries: int = ENTRIES, seed: int = 0) -> Path:
    """Write random entries for a query model, each a query for one of `users`."""
    drawn = random.Random(seed)
    data = [{"query": {"content": [Query.USER, drawn.randrange(users)], "shape": [1, 2]}} for _ in range(entries)]
    path.write_text(json.dumps({"data": data}))
    return path


def measure(analyzer: Analyzer, load: Load, port: int, data: Path, seconds: float, again: bool = True) -> Outcome:
    """Measure a point in windows of a third of `seconds`, until three windows in a row agree.

    If they never do and `again` is set, three more windows are measured and reported. If those do not agree either, the
    outcome has figures and an error that begins with "unstable:".
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
        error = f"fell behind the rate of {load.rate:.0f} requests/s: {late}; give perf_analyzer cores of its own"
        outcome = replace(outcome, error=error)
    return replace(outcome, figures=figures)


def sample(analyzer: Analyzer, load: Load, port: int, data: Path, seconds: float) -> Outcome:
    """Measure three windows, whether they agree or not: to warm up, or where several rounds show the variation."""
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
        except subprocess.TimeoutExpired as late:  # above the capacity, it waits for the answers to all its requests
            error = f"perf_analyzer did not end in {limit:.0f} s; reduce the load, or look into the server's log"
            output = late.stdout.decode() if isinstance(late.stdout, bytes) else ""
            return Outcome(parse(output, "", load), error, command)
        figures = parse(ran.stdout, report.read_text() if report.exists() else "", load)
    error = failure(ran.returncode, ran.stdout + ran.stderr, window)
    if load.rate and error.startswith("perf_analyzer ended") and not figures.get("kept_up", True):
        error = f"fell behind the rate of {load.rate:.0f} requests/s: {error}"
    return Outcome(figures, error, command)


def loop(load: Load) -> list[str]:
    if load.concurrency:
        return ["--concurrency-range", str(load.concurrency)]
    return ["--request-rate-range", f"{load.rate:.1f}", "--request-distribution", "poisson"]


def failure(code: int, output: str, window: int) -> str:
    """The reason why the measurement is not stable, in one line; empty if it is stable."""
    seen = passes(output)
    if "Failed to obtain stable measurement" in output or (code == 0 and not agree(seen)):
        p99 = ", ".join(f"{ms:.3g}" for ms in seen["p99_ms"])
        return (
            f"unstable: {WINDOWS} windows of {window} ms never agreed within {STABLE_PERCENT} % (p99 {p99} ms); "
            "use an idle machine or longer --seconds"
        )
    if code:
        lines = [line for line in output.splitlines() if re.search("error|fail", line, re.IGNORECASE)]
        return f"perf_analyzer ended with {code}: {first_line(lines[-1] if lines else output)}"
    return ""


def agree(seen: Mapping[str, list[float]]) -> bool:
    """Whether throughput and p99 of the last three windows differ by at most STABLE_PERCENT.

    In an open loop perf_analyzer itself compares the throughput only.
    """
    last = [values[-WINDOWS:] for values in seen.values()]
    return all(len(values) == WINDOWS and max(values) <= (1 + STABLE_PERCENT / 100) * min(values) for values in last)


def passes(output: str) -> dict[str, list[float]]:
    """Rows/s and p99 of each window."""
    found = re.findall(r"Pass \[\d+\] throughput: ([\d.e+]+) infer/sec\. p99 latency: (\d+) usec", output)
    return {"rows_per_s": [float(rows) for rows, _ in found], "p99_ms": [int(us) / 1000 for _, us in found]}


def parse(output: str, report: str, load: Load) -> dict[str, Any]:
    """Figures from its CSV report and its output; without a report, the medians of its windows, if there are any."""
    rows = list(csv.DictReader(report.splitlines()))
    figures: dict[str, Any] = {name: median_high(values) for name, values in passes(output).items() if values}
    if rows:
        row = rows[0]
        figures = {
            "rows_per_s": float(row["Inferences/Second"]),  # perf_analyzer counts the rows of a request
            **{f"p{part}_ms": float(row[f"p{part} latency"]) / 1000 for part in (50, 90, 95, 99)},
            "server_queue_us": float(row["Server Queue"]),
            "server_infer_us": float(row["Server Compute Infer"]),
        }
    if not figures:
        return {}
    figures["requests_per_s"] = figures["rows_per_s"] / load.batch
    if count := re.search(r"Request count: (\d+)", output):
        figures["requests"] = int(count[1])
    if load.rate:
        found = re.search(r"([\d.]+)% of the requests were delayed", output)
        delayed = float(found[1]) if found else 0.0
        figures["asked_per_s"] = load.rate
        # Arrivals are random: a number below n by up to three times its square root is within chance.
        least = load.rate * (1 - 3 / math.sqrt(max(1, figures.get("requests", 0))))
        figures["kept_up"] = bool(rows) and delayed < LATE_PERCENT and figures["requests_per_s"] >= least
        if rows:
            figures["delayed_percent"] = delayed
    return figures


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
