"""Section "saturation": `serve` asked for less and for more than it can answer, and how soon it is itself again."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click

from benchmarks.rig.open_loop import LATE_MS, Request, Stage, closed_loop, open_loop
from benchmarks.rig.points import Key
from benchmarks.rig.processes import cpu_seconds, memory_mb, unrelated_seconds
from benchmarks.rig.rig import Recommender
from benchmarks.rig.run import BODIES, BenchRun
from benchmarks.rig.servers import PATH, SERVE, whole_serve
from benchmarks.rig.wrk import Target, wrk

SECTION = "saturation"
CONNECTIONS = 32  # of wrk, for the capacity: fewer than any limit, for requests that wrk leaves behind keep their place
WARM_SECONDS = 1
LIMITS = (512, 128, 64)
SHARES, QUICK_SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0), (0.5, 1.0, 2.0)
CALM = 0.5  # the share that is compared before and after
RECOVERED = 1.5  # times its p99 before
WINDOW_SECONDS = 0.5
CAPACITY, RECOVERY = "capacity", "recovery"


def run(run: BenchRun) -> None:
    """Points of every share of the capacity, with each limit of requests under way."""
    shares = QUICK_SHARES if run.quick else SHARES
    for limit in LIMITS[:1] if run.quick else LIMITS:
        keys: list[Key] = [{"share": share, "max_in_flight": limit} for share in (CAPACITY, *shares, RECOVERY)]
        missing = run.points.missing(SECTION, keys)
        if not missing:
            continue
        task = run.bench.progress.add_task(f"saturation, SERVE_MAX_IN_FLIGHT={limit}", total=len(missing))
        try:
            with whole_serve(run.bench, run.recommender, SERVE, settings={"SERVE_MAX_IN_FLIGHT": str(limit)}) as target:
                closed_loop(target.port, top_requests(run), CONNECTIONS, WARM_SECONDS)  # no first request counts
                for key in missing:
                    one_point(run, target, key)
                    run.bench.progress.advance(task)
        except click.ClickException as error:
            for key in run.points.missing(SECTION, missing):
                run.points.add(SECTION, key, {}, error=error.message)
        run.bench.progress.remove_task(task)


def bodies(recommender: Recommender) -> list[bytes]:
    """Top 10 of known users."""
    users = random.Random(0).sample(range(recommender.num_users), BODIES)
    return [json.dumps({"user_id": recommender.run.users.ids[user], "k": 10}).encode() for user in users]


def one_point(run: BenchRun, target: Target, key: Key) -> None:
    """Measure and write down one point; if it fails, the reason."""
    command = f"SERVE_MAX_IN_FLIGHT={key['max_in_flight']} serve"
    try:
        if key["share"] == CAPACITY:
            figures = capacity_figures(run, target)
            command += f"; wrk --threads 1 --connections {CONNECTIONS} --duration {whole_seconds(run)}s"
        else:
            capacity = earlier(run, key, CAPACITY).get("requests_per_s")
            if capacity is None:
                raise click.ClickException("the capacity was not measured, see its point")
            if key["share"] == RECOVERY:
                figures = recovery_figures(run, target, capacity, earlier(run, key, CALM).get("p99_ms"))
            else:
                figures = share_figures(run, target, Stage(float(key["share"]) * capacity, stage_seconds(run)))
    except click.ClickException as error:
        run.points.add(SECTION, key, {}, error=error.message, command=command)
        return
    if (figures.get("lag_ms") or 0) > LATE_MS:
        run.bench.say(f"saturation {dict(key)}: the load generator sent {figures['lag_ms']:.0f} ms late at p99")
    run.points.add(SECTION, key, figures, command=command)


def earlier(run: BenchRun, key: Key, share: str | float) -> dict[str, Any]:
    """The figures of another point with the same limit, none if there is no such point."""
    wanted = {**key, "share": share}
    return next((point.figures for point in run.points.of(SECTION) if point.key == wanted), {})


def whole_seconds(run: BenchRun) -> int:
    return max(2, round(run.bench.seconds))


def stage_seconds(run: BenchRun) -> float:
    return 2.0 if run.quick else 5.0


def capacity_figures(run: BenchRun, target: Target) -> dict[str, Any]:
    found = asdict(wrk(target, bodies(run.recommender), CONNECTIONS, whole_seconds(run)))
    return {"requests_per_s": found.pop("rate"), **found, "memory_mb": memory_mb(target.process)}


def share_figures(run: BenchRun, target: Target, stage: Stage) -> dict[str, Any]:
    with cost(target) as costs:
        (figures,) = open_loop(target.port, top_requests(run), [stage])
    return {**figures, **per_request(costs, figures["requests"]), "memory_mb": memory_mb(target.process)}


def recovery_figures(run: BenchRun, target: Target, capacity: float, before_ms: float | None) -> dict[str, Any]:
    """Three times the capacity, then at once half of it: `recovery_s` until p99 is near what it was before.

    `recovery_s` is none if that was not reached; `lost` counts requests of both stages without an answer.
    """
    if before_ms is None:
        raise click.ClickException(f"there is no p99 at {CALM} of the capacity to compare with, see its point")
    flood, calm = Stage(3 * capacity, stage_seconds(run)), Stage(CALM * capacity, 3 * stage_seconds(run))
    windows = list(open_loop(target.port, top_requests(run), [flood, calm], WINDOW_SECONDS))
    after = sorted((each for each in windows if each["stage"] == 1), key=lambda each: each["second"])
    lost = sum(count for each in windows for code, count in each["errors"].items() if not code.isdecimal())
    p99_ms = [each["p99_ms"] for each in after]
    return {
        "recovery_s": recovery_seconds(p99_ms, before_ms),
        "before_p99_ms": before_ms,
        "windows_p99_ms": p99_ms,
        "windows_shed_share": [each["shed_share"] for each in after],
        "requests": sum(each["requests"] for each in windows),
        "lost": lost,
        "lag_ms": max(each["lag_ms"] for each in after),
        "memory_mb": memory_mb(target.process),
    }


def recovery_seconds(p99_ms: list[float | None], before_ms: float) -> float | None:
    """Until the end of the first window that is near `before_ms`, and so is the one after it; none if there is none."""
    near = [value is not None and value <= RECOVERED * before_ms for value in p99_ms]
    for number, (this, following) in enumerate(itertools.pairwise(near)):
        if this and following:
            return WINDOW_SECONDS * (number + 1)
    return None


def top_requests(run: BenchRun) -> list[Request]:
    return [Request(PATH, body) for body in bodies(run.recommender)]


@contextlib.contextmanager
def cost(target: Target) -> Iterator[dict[str, Any]]:
    """CPU seconds by role under "cpu", and how many cores were busy with other things under "others"."""
    found: dict[str, Any] = {}
    before, unrelated, began = cpu_seconds(target.process), unrelated_seconds(), time.monotonic()
    yield found
    elapsed, unrelated = time.monotonic() - began, unrelated_seconds() - unrelated
    found["cpu"] = {role: spent - before.get(role, 0) for role, spent in cpu_seconds(target.process).items()}
    found["others"] = max(0.0, unrelated / elapsed)


def per_request(costs: Mapping[str, Any], requests: int) -> dict[str, Any]:
    cpu_us = {role: 1e6 * spent / requests for role, spent in costs["cpu"].items()}
    return {"cpu_us": cpu_us, "others": costs["others"]}
