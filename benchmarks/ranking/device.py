"""Benchmark of the top-K model on a CPU or a GPU: Triton's own times for one user, and users/s in full batches."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from array import array

import orjson

from benchmarks.ranking.catalogue import MANY_USERS, Client, infer
from benchmarks.rig.rig import (
    Bench,
    Call,
    Recommender,
    Report,
    Times,
    interleaved,
    milliseconds,
    random_recommender,
    spread,
    timed,
)
from benchmarks.rig.tritonserver import tritonserver
from ncf.export.export import MAX_BATCH_SIZE_TOPK
from ncf.training.config import DEFAULT_K
from serve.supervisor.ports import LOOPBACK
from serve.triton import tensors
from serve.triton.address import TritonAddress
from serve.triton.pool import TritonPool

USERS_ITEMS = 26_744


def on_the_device(bench: Bench) -> list[Report]:
    """Section F: what Triton itself says of one user among a million items, and users/s at batch 256."""
    gpu = bench.device == "gpu"
    inside = Report(
        f"F. one user's top {DEFAULT_K} of {bench.most_items:,} items on {bench.device}: Triton's own statistics, "
        "ms at p50 (smallest–largest round)",
        ("gmf 64", "in all", "queue", "input", "model", "output", "seen by the client"),
    )
    recommender = random_recommender(bench, "gmf", 64, MANY_USERS, bench.most_items)
    with tritonserver(bench, recommender.repository, f"{recommender.name}_topk") as server:
        parts = asyncio.run(_statistics(bench, server.ports["http"], recommender))
    inside.rows.append((f"{bench.most_items:,} items", *(spread(milliseconds(times), 3) for times in parts.values())))
    inside.record = {name: milliseconds(times) for name, times in parts.items()}
    met = statistics.median(inside.record["success"]) <= 1
    inside.targets.append(("at most 1 ms in Triton on a GPU", met if gpu and not bench.quick else None))

    many = Report(
        f"F. users/s of top {DEFAULT_K} of {USERS_ITEMS:,} items on {bench.device}, batches of {MAX_BATCH_SIZE_TOPK}",
        ("gmf 64", "users/s, 2 requests at a time"),
    )
    recommender = random_recommender(bench, "gmf", 64, MANY_USERS, USERS_ITEMS)
    with tritonserver(bench, recommender.repository, f"{recommender.name}_topk") as server:
        times = asyncio.run(_full_batches(bench, server.ports["http"], recommender))
    rates = [2 * MAX_BATCH_SIZE_TOPK * len(each) / sum(each) for each in times]
    many.rows.append((f"{USERS_ITEMS:,} items", spread(rates, 0)))
    many.record = {"users/s": rates}
    many.targets.append(("at least 20,000 users/s on a GPU", statistics.median(rates) >= 20_000 if gpu else None))
    return [inside, many]


STATISTICS = ("success", "queue", "compute_input", "compute_infer", "compute_output")


async def _statistics(bench: Bench, port: int, recommender: Recommender) -> dict[str, list[Times]]:
    """Triton counts sums, so they are read after each request: a difference is one request's."""
    pool = TritonPool(TritonAddress(LOOPBACK, port))
    client = Client(pool, recommender)

    async def sums() -> list[int]:
        answer = await pool.request(b"GET", f"/v2/models/{recommender.name}_topk/stats")
        found = orjson.loads(answer.body)["model_stats"][0]["inference_stats"]
        return [found[name]["ns"] for name in STATISTICS]

    parts: dict[str, list[Times]] = {name: [] for name in (*STATISTICS, "client")}
    task = bench.progress.add_task("statistics", total=bench.rounds + 1)
    for number in range(bench.rounds + 1):
        times: list[list[float]] = []
        before = await sums()
        end = time.perf_counter() + bench.seconds
        while time.perf_counter() < end or len(times) < 3:
            began = time.perf_counter()
            await client.topk(client.user())
            whole = time.perf_counter() - began
            after = await sums()
            times.append([*((a - b) / 1e9 for a, b in zip(after, before, strict=True)), whole])
            before = after
        if number:
            for name, column in zip(parts, zip(*times, strict=True), strict=True):
                parts[name].append(list(column))
        bench.progress.advance(task)
    bench.progress.remove_task(task)
    return parts


async def _full_batches(bench: Bench, port: int, recommender: Recommender) -> list[Times]:
    pool = TritonPool(TritonAddress(LOOPBACK, port))

    async def one() -> None:
        user = array("q", [random.randrange(recommender.num_users) for _ in range(MAX_BATCH_SIZE_TOPK)])
        request = tensors.encode_int64(MAX_BATCH_SIZE_TOPK, (1,), {"user_index": user})
        await infer(pool, f"{recommender.name}_topk", request)

    async def two() -> None:
        await asyncio.gather(one(), one())

    ways: dict[str, Call] = {"batch": lambda: timed(two, bench.seconds)}
    return (await interleaved(bench, "full batches", ways))["batch"]
