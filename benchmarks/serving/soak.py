"""Section "soak": ten minutes of mixed load at half of the capacity, and the resources that every process uses."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import numpy as np

from benchmarks.rig.open_loop import LATE_MS, Request, Stage, closed_loop, open_loop
from benchmarks.rig.processes import family, memory_mb
from benchmarks.rig.recommender import Recommender
from benchmarks.rig.run import BenchRun
from benchmarks.rig.servers import PATH, whole_serve
from benchmarks.rig.wrk import Target

SECTION = "soak"
MINUTES, QUICK_SECONDS = 10, 20
WINDOW_SECONDS = 5
WARM_SECONDS, CONNECTIONS = 3, 16  # of the load that measures the capacity
SHARE = 0.5  # of the capacity
BAD_STATUS = "400"  # the right answer to the invalid requests of the mix
PAIRS, CANDIDATES, LINES = 20, 50, 20
SECONDS_AN_HOUR = 3600


def run(run: BenchRun) -> None:
    """Measure a point every five seconds, and the growth at the end; an interrupted soak is repeated as a new take."""
    points = run.points.of(SECTION)
    if any(point.key.get("summary") == "slope" and not point.error for point in points):
        return
    take = 1 + max((int(point.key["take"]) for point in points), default=0)
    seconds = QUICK_SECONDS if run.quick else 60 * MINUTES
    summary = {"take": take, "summary": "slope"}
    try:
        with (
            whole_serve(run, run.recommender.repository) as target,
            run.steps(f"soak, {seconds} s", seconds) as advance,
        ):
            requests = mix(run.recommender)
            closed_loop(target.port, requests, CONNECTIONS, WARM_SECONDS)
            rate = SHARE * closed_loop(target.port, requests, CONNECTIONS, WARM_SECONDS)["requests_per_s"]
            samples: list[tuple[float, dict[str, float]]] = []
            late = 0
            for window in open_loop(target.port, requests, [Stage(rate, seconds)], WINDOW_SECONDS):
                figures = {**window, **resources(target), "unexpected": unexpected(window["errors"])}
                second = round(window["second"])
                run.points.add(SECTION, {"take": take, "second": second}, figures, command="serve")
                samples.append((second, figures["memory_mb"]))
                advance(WINDOW_SECONDS)
                late += window["lag_ms"] > LATE_MS
                if not figures["memory_mb"]:
                    raise click.ClickException(f"serve ended after {second} s")
        if late:
            run.say(f"soak: the load generator was late by {LATE_MS:.0f} ms in {late} of {len(samples)} windows")
        slopes = growth(samples, seconds / 2)
        run.points.add(SECTION, summary, {"seconds": seconds, "offered_per_s": rate, "mb_per_hour": slopes})
    except click.ClickException as error:
        run.points.add(SECTION, summary, {}, error=error.message)


def mix(recommender: Recommender) -> list[Request]:
    """64 requests of every kind, shuffled; some for unknown users, and some invalid."""
    draw = random.Random(0)
    users, items = recommender.run.users.ids, recommender.run.items.ids

    def user() -> str:
        return str(users[draw.randrange(len(users))])

    def some(count: int) -> list[str]:
        return [str(items[draw.randrange(len(items))]) for _ in range(count)]

    documents: list[object] = []
    documents += [{"pairs": [{"user_id": user(), "item_id": item} for item in some(PAIRS)]} for _ in range(16)]
    documents += [{"user_id": user(), "k": 10} for _ in range(16)]
    documents += [{"user_id": user(), "candidates": some(CANDIDATES)} for _ in range(12)]
    documents += [{"user_id": f"nobody-{number}", "k": 10} for number in range(8)]
    documents += [{"user_id": user(), "k": 0}, {"user_id": user(), "kk": 1}, {}, ["no object"]]
    requests = [Request(PATH, json.dumps(document).encode()) for document in documents]
    for _ in range(8):
        lines = "".join(f"{user()},{item}\n" for item in some(LINES))
        requests.append(Request(PATH, lines.encode(), "text/csv"))
    draw.shuffle(requests)
    return requests


def unexpected(errors: dict[str, int]) -> int:
    """The number of requests with a wrong answer: all errors but those of the invalid requests."""
    return sum(count for code, count in errors.items() if code != BAD_STATUS)


def resources(target: Target) -> dict[str, dict[str, float]]:
    """Memory, threads and open files by role."""
    assert target.process is not None
    found: dict[str, dict[str, float]] = {"memory_mb": memory_mb(target.process), "threads": {}, "files": {}}
    for process, (role, _) in family(target.process).items():
        with suppress(OSError):  # the process has just ended
            folder = Path("/proc") / str(process)
            for name, entries in (("threads", "task"), ("files", "fd")):
                found[name][role] = found[name].get(role, 0) + len([*(folder / entries).iterdir()])
    return found


def growth(samples: Sequence[tuple[float, dict[str, float]]], since: float) -> dict[str, dict[str, float | None]]:
    """Growth of the memory in MB an hour by role after `since` seconds, with its standard error.

    `all` is the sum of the roles, which does not change when a page moves from one process to another.
    """
    later = sorted((second, {**memory, "all": sum(memory.values())}) for second, memory in samples if second > since)
    result = {}
    for role in later[-1][1] if later else ():
        hours = [second / SECONDS_AN_HOUR for second, memory in later if role in memory]
        slope, error = line([*hours], [memory[role] for _, memory in later if role in memory])
        result[role] = {"slope": slope, "standard_error": error}
    return result


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float | None, float | None]:
    """The slope of the least-squares line and its standard error; None if there are too few points for it."""
    if len(x) < 2:
        return None, None
    across = np.asarray(x) - np.mean(x)
    up = np.asarray(y) - np.mean(y)
    square = float(across @ across)
    slope = float(across @ up) / square
    if len(x) < 3:
        return slope, None
    rest = up - slope * across
    return slope, math.sqrt(float(rest @ rest) / (len(x) - 2) / square)
