"""Section "device": the query model on a CPU or a GPU: Triton's own times for one user, and users/s in full batches."""

from __future__ import annotations

import asyncio
import time
from array import array
from statistics import median
from typing import Any

import orjson

from benchmarks.ranking.catalogue import MANY_USERS, many_items
from benchmarks.ranking.client import Client
from benchmarks.rig.points import Key
from benchmarks.rig.run import BenchRun
from benchmarks.rig.timing import timed
from benchmarks.rig.tritonserver import tritonserver
from ncf.export.model_configs import MAX_BATCH_SIZE_QUERY
from ncf.export.query import Query
from serve.triton import tensors

SECTION = "device"
ONE_USER, FULL_BATCHES = "one user", "full batches"
BATCH_ITEMS = 26_744  # as many as MovieLens-20M has
# Triton's statistics, and their names in a point.
PARTS = {
    "success": "triton_ms", "queue": "queue_ms", "compute_input": "input_ms", "compute_infer": "model_ms",
    "compute_output": "output_ms",
}  # fmt: skip


def run(run: BenchRun) -> None:
    """Measure the points that are missing of both catalogues."""
    for load, items in ((ONE_USER, many_items(run)), (FULL_BATCHES, BATCH_ITEMS)):
        keys: list[Key] = [
            {"load": load, "device": run.device, "items": items, "round": number} for number in range(run.rounds)
        ]
        missing = run.points.missing(SECTION, keys)
        if missing:
            recommender = run.random("gmf", 64, MANY_USERS, items)
            with tritonserver(run, recommender.repository, f"{recommender.name}_query") as triton:
                asyncio.run(measure(run, Client(triton, recommender), missing))


async def measure(run: BenchRun, client: Client, missing: list[Key]) -> None:
    load = one_user if missing[0]["load"] == ONE_USER else full_batches
    with run.steps(str(missing[0]["load"]), len(missing)) as advance:
        await load(client, run.seconds)  # to warm up
        for key in missing:
            run.points.add(SECTION, key, await load(client, run.seconds))
            advance(1)


async def one_user(client: Client, seconds: float) -> dict[str, Any]:
    """Medians in ms over requests of one user.

    Triton's statistics are sums, so they are read after each request: the difference is the time of that request.
    """

    async def sums() -> list[int]:
        answer = await client.pool.request(b"GET", f"/v2/models/{client.name}_query/stats")
        found = orjson.loads(answer.body)["model_stats"][0]["inference_stats"]
        return [found[name]["ns"] for name in PARTS]

    rows: list[list[float]] = []
    before = await sums()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rows) < 3:
        began = time.perf_counter()
        await client.lone_user(client.user())
        whole = time.perf_counter() - began
        after = await sums()
        rows.append([*((late - early) / 1e6 for late, early in zip(after, before, strict=True)), 1e3 * whole])
        before = after
    return dict(zip((*PARTS.values(), "client_ms"), map(median, zip(*rows, strict=True)), strict=True))


async def full_batches(client: Client, seconds: float) -> dict[str, Any]:
    """Users/s with two requests of the largest batch at a time."""

    async def one() -> None:
        rows = array("q")
        for _ in range(MAX_BATCH_SIZE_QUERY):
            rows.extend((Query.USER, client.user()))
        request = tensors.encode_int64(MAX_BATCH_SIZE_QUERY, (1, 2), {"query": rows})
        await client.infer(f"{client.name}_query", request)

    async def two() -> None:
        await asyncio.gather(one(), one())

    times = await timed(two, seconds)
    return {"users_per_s": 2 * MAX_BATCH_SIZE_QUERY * len(times) / sum(times), "batch": MAX_BATCH_SIZE_QUERY}
