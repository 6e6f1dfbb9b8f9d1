"""Section "saturation": load below and above the capacity of `serve`, and how soon it recovers from overload."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import asdict
from typing import Any

import click

from benchmarks.rig.open_loop import LATE_MS, Request, Stage, closed_loop, open_loop
from benchmarks.rig.points import Key
from benchmarks.rig.processes import cost, memory_mb, per_request
from benchmarks.rig.recommender import Recommender
from benchmarks.rig.run import BODIES, BenchRun
from benchmarks.rig.servers import PATH, whole_serve
from benchmarks.rig.wrk import Target, find_wrk, wrk

SECTION = "saturation"
# Of wrk, which measures the capacity. Fewer than any limit: a request that wrk abandons stays in flight for a while.
CONNECTIONS = 32
WARM_SECONDS = 1
LIMITS = (512, 128, 64)
SHARES, QUICK_SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0), (0.5, 1.0, 2.0)
CALM = 0.5  # share of the capacity at which p99 is compared before and after overload
RECOVERED = 1.5  # recovered: p99 is at most so many times p99 before
WINDOW_SECONDS = 0.5
CAPACITY, RECOVERY = "capacity", "recovery"


def run(run: BenchRun) -> None:
    """Measure every share of the capacity with each limit of requests in flight."""
    find_wrk()
    shares = QUICK_SHARES if run.quick else SHARES
    for limit in LIMITS[:1] if run.quick else LIMITS:
        keys: list[Key] = [{"share": share, "max_in_flight": limit} for share in (CAPACITY, *shares, RECOVERY)]
        missing = run.points.missing(SECTION, keys)
        if not missing:
            continue
        try:
            with (
                whole_serve(run, run.recommender.repository, settings={"SERVE_MAX_IN_FLIGHT": str(limit)}) as target,
                run.steps(f"saturation, SERVE_MAX_IN_FLIGHT={limit}", len(missing)) as advance,
            ):
                closed_loop(target.port, top_requests(run), CONNECTIONS, WARM_SECONDS)
                for key in missing:
                    one_point(run, target, key)
                    advance(1)
        except click.ClickException as error:
            run.points.fail(SECTION, missing, error.message)


def bodies(recommender: Recommender) -> list[bytes]:
    """Top 10 of known users."""
    users = random.Random(0).sample(range(recommender.num_users), BODIES)
    return [json.dumps({"user_id": recommender.run.users.ids[user], "k": 10}).encode() for user in users]


def one_point(run: BenchRun, target: Target, key: Key) -> None:
    """Measure one point; if it fails, its error is written."""
    command = f"SERVE_MAX_IN_FLIGHT={key['max_in_flight']} serve"
    try:
        if key["share"] == CAPACITY:
            figures = capacity_figures(run, target)
            command += f"; wrk --threads 1 --connections {CONNECTIONS} --duration {whole_seconds(run)}s"
        else:
            capacity = earlier(run, key, CAPACITY).get("requests_per_s")
            if capacity is None:
                raise click.ClickException("the capacity is not known; see the error of its point")
            if key["share"] == RECOVERY:
                figures = recovery_figures(run, target, capacity, earlier(run, key, CALM).get("p99_ms"))
            else:
                figures = share_figures(run, target, Stage(float(key["share"]) * capacity, stage_seconds(run)))
    except click.ClickException as error:
        run.points.add(SECTION, key, {}, error=error.message, command=command)
        return
    if (figures.get("lag_ms") or 0) > LATE_MS:
        run.say(f"saturation {dict(key)}: p99 of the load generator's delay was {figures['lag_ms']:.0f} ms")
    run.points.add(SECTION, key, figures, command=command)


def earlier(run: BenchRun, key: Key, share: str | float) -> dict[str, Any]:
    """The figures of another point with the same limit; empty if there is no such point."""
    wanted = {**key, "share": share}
    return next((point.figures for point in run.points.of(SECTION) if point.key == wanted), {})


def whole_seconds(run: BenchRun) -> int:
    return max(2, round(run.seconds))


def stage_seconds(run: BenchRun) -> float:
    return 2.0 if run.quick else 5.0


def capacity_figures(run: BenchRun, target: Target) -> dict[str, Any]:
    found = asdict(wrk(target, bodies(run.recommender), CONNECTIONS, whole_seconds(run)))
    return {"requests_per_s": found.pop("rate"), **found, "memory_mb": memory_mb(target.process)}


def share_figures(run: BenchRun, target: Target, stage: Stage) -> dict[str, Any]:
    with cost(target.process) as costs:
        (figures,) = open_loop(target.port, top_requests(run), [stage])
    return {**figures, **per_request(costs, figures["requests"]), "memory_mb": memory_mb(target.process)}


def recovery_figures(run: BenchRun, target: Target, capacity: float, before_ms: float | None) -> dict[str, Any]:
    """Send three times the capacity and then half of it: `recovery_s` is the time until p99 is near `before_ms`.

    It is None if p99 stayed higher. `lost` counts the requests of both stages that had no answer.
    """
    if before_ms is None:
        raise click.ClickException(f"p99 at {CALM} of the capacity is not known; see the error of its point")
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
    """The end of the first window that is near `before_ms` and is followed by another such window; None without one."""
    near = [value is not None and value <= RECOVERED * before_ms for value in p99_ms]
    for number, (this, following) in enumerate(itertools.pairwise(near)):
        if this and following:
            return WINDOW_SECONDS * (number + 1)
    return None


def top_requests(run: BenchRun) -> list[Request]:
    return [Request(PATH, body) for body in bodies(run.recommender)]
