"""Section "catalogue": a user's best items by a query, alone and with conditions, beside scoring every item."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.ranking.client import Client, Ranked
from benchmarks.rig.points import Key
from benchmarks.rig.processes import cost, per_request
from benchmarks.rig.run import ITEMS, USERS, BenchRun
from benchmarks.rig.timing import latency, timed
from benchmarks.rig.tritonserver import Triton, tritonserver

SECTION = "catalogue"
WAYS = ("every item", "query", "query that excludes")
CONCURRENCIES = (1, 16)
MANY_USERS = 10_000
Case = tuple[str, int, int, int]
"""Model, factors, users and items."""


def run(run: BenchRun) -> None:
    """Measure the points that are missing, one recommender after the other."""
    for name, case in cases(run).items():
        missing = run.points.missing(SECTION, keys(name, run.rounds))
        if missing:
            recommender = run.random(*case)
            parts = (recommender.name, f"{recommender.name}_query")
            with tritonserver(run, recommender.repository, *parts) as triton:
                asyncio.run(measure(run, triton, Client(triton, recommender), missing))


def cases(run: BenchRun) -> dict[str, Case]:
    """The recommenders by their names in the report."""
    listed = [("gmf", 64, USERS, ITEMS), ("neumf", 16, USERS, ITEMS), ("gmf", 64, MANY_USERS, many_items(run))]
    return {f"{case[0]} {case[1]}, {case[3]:,} items": case for case in listed}


def many_items(run: BenchRun) -> int:
    return 100_000 if run.quick else 1_000_000


def keys(name: str, rounds: int) -> list[Key]:
    """The points of a recommender, every second round in reverse order."""
    return [
        {"model": name, "way": way, "concurrency": concurrency, "round": number}
        for number in range(rounds)
        for concurrency in CONCURRENCIES
        for way in WAYS[:: -1 if number % 2 else 1]
    ]


async def measure(run: BenchRun, triton: Triton, client: Client, missing: list[Key]) -> None:
    await client.check()
    ranks = dict(zip(WAYS, (client.every_item, client.lone_user, client.excluding), strict=True))
    warm = set[tuple[str, int]]()
    with run.steps(str(missing[0]["model"]), len(missing)) as advance:
        for key in missing:
            way, concurrency = str(key["way"]), int(key["concurrency"])
            if (way, concurrency) not in warm:
                await load(triton, client, ranks[way], concurrency, run.seconds)
                warm.add((way, concurrency))
            run.points.add(SECTION, key, await load(triton, client, ranks[way], concurrency, run.seconds))
            advance(1)


async def load(
    triton: Triton, client: Client, rank: Callable[[int], Awaitable[Ranked]], concurrency: int, seconds: float
) -> dict[str, Any]:
    """Figures of `concurrency` clients that each rank for one random user after the other."""
    at_least = 3 if concurrency == 1 else 1
    with cost(triton.process) as costs:
        began = time.perf_counter()
        each = await asyncio.gather(
            *(timed(lambda: rank(client.user()), seconds, at_least) for _ in range(concurrency))
        )
        elapsed = time.perf_counter() - began
    times = [seconds for times in each for seconds in times]
    return {
        "requests": len(times),
        "requests_per_s": len(times) / elapsed,
        **latency(times),
        **per_request(costs, len(times)),
    }
