"""Benchmark of ranking a whole catalogue by the top-K model, beside scoring every item and picking the best."""

from __future__ import annotations

import asyncio
import random
import statistics
from array import array
from collections.abc import Awaitable, Callable

import numpy as np

from benchmarks.rig.rig import (
    Bench,
    Call,
    Recommender,
    Report,
    Times,
    interleaved,
    milliseconds,
    random_recommender,
    ratios,
    spread,
    timed,
)
from benchmarks.rig.tritonserver import tritonserver
from ncf.export.export import MAX_BATCH_SIZE
from ncf.export.query import Query
from ncf.training.config import DEFAULT_K
from serve.supervisor.ports import LOOPBACK
from serve.triton import tensors
from serve.triton.address import TritonAddress
from serve.triton.pool import TritonPool

USERS, MANY_USERS = 6_040, 10_000
ITEMS = 3_706
MANY = 16
# Requests of a client that scores every item: enough to keep Triton busy, few enough to keep memory small.
IN_FLIGHT = 4
Ranked = tuple[list[int], list[float]]


async def infer(pool: TritonPool, model: str, request: tensors.TensorRequest) -> bytes:
    """The answer's body behind its header."""
    answer = await pool.request(b"POST", f"/v2/models/{model}/infer", request.body, request.header_length)
    if answer.status != 200 or answer.header_length is None:
        raise RuntimeError(answer.body.decode(errors="replace"))
    return answer.body[answer.header_length :]


class Client:
    """The three ways to the K best items of a user; each returns their indices and scores."""

    def __init__(self, pool: TritonPool, recommender: Recommender) -> None:
        self.pool, self.recommender, self.name = pool, recommender, recommender.name
        self.chunks = []
        for start in range(0, recommender.num_items, MAX_BATCH_SIZE):
            rows = min(MAX_BATCH_SIZE, recommender.num_items - start)
            item = np.arange(start, start + rows)
            both = {name: array("q", bytes(8 * rows)) for name in ("item_index", "user_index")}
            encoded = tensors.encode_int64(rows, (1,), both)
            self.chunks.append((encoded.body[: encoded.header_length] + item.tobytes(), encoded.header_length, rows))

    def user(self) -> int:
        return random.randrange(self.recommender.num_users)

    async def topk(self, user: int) -> Ranked:
        request = tensors.encode_int64(1, (1,), {"user_index": array("q", (user,))})
        return self._ranked(await infer(self.pool, f"{self.name}_topk", request))

    async def query(self, user: int) -> Ranked:
        rows = array("q", (Query.USER, user))
        for _ in range(3):
            rows.extend((Query.EXCLUDE, random.randrange(self.recommender.num_items)))
        request = tensors.encode_int64(1, (4, 2), {"query": rows})
        return self._ranked(await infer(self.pool, f"{self.name}_query", request))

    async def every_item(self, user: int) -> Ranked:
        """All items scored through `<name>`, those that were seen left out, the K best picked here."""
        scores = np.empty(self.recommender.num_items, np.float32)
        places = asyncio.Semaphore(IN_FLIGHT)

        async def part(number: int) -> None:
            head, length, rows = self.chunks[number]
            request = tensors.TensorRequest(head + np.full(rows, user).tobytes(), length)
            async with places:
                body = await infer(self.pool, self.name, request)
            scores[number * MAX_BATCH_SIZE :][:rows] = np.frombuffer(body, np.float32)

        await asyncio.gather(*map(part, range(len(self.chunks))))
        scores[self.recommender.seen(user)] = -np.inf
        best = np.argpartition(scores, -DEFAULT_K)[-DEFAULT_K:]
        best = best[np.argsort(-scores[best])]
        return best.tolist(), scores[best].tolist()

    def _ranked(self, body: bytes) -> Ranked:
        index, score = body[: 8 * DEFAULT_K], body[8 * DEFAULT_K :]
        return np.frombuffer(index, np.int64).tolist(), np.frombuffer(score, np.float32).tolist()

    async def check(self) -> None:
        """All three rank alike; a query leaves three items more out, and rounding may change the last places."""
        user = self.user()
        (item, score), topk, query = await self.every_item(user), await self.topk(user), await self.query(user)
        alike = [len(set(item) & set(other)) for other in (topk[0], query[0])]
        if not np.allclose(topk[1], score, atol=1e-4) or min(alike) < DEFAULT_K - 6:
            raise RuntimeError(f"{self.name}: the ways disagree, {alike} items of {DEFAULT_K} in common")


def against_every_item(bench: Bench) -> list[Report]:
    """Section A."""
    columns = ("every item", "top-K", "query", "every item / top-K", "every item / query")
    names = columns[:3]
    latency = Report(
        f"A. one user's top {DEFAULT_K} through Triton, ms at p50 (smallest–largest round), concurrency 1",
        ("model", *columns),
    )
    rate = Report(f"A. the same in users/s, concurrency {MANY}", ("model", *columns))
    kinds = [("gmf", 64, USERS, ITEMS), ("neumf", 16, USERS, ITEMS), ("gmf", 64, MANY_USERS, bench.most_items)]
    for kind in kinds:
        recommender = random_recommender(bench, *kind)
        model = f"{kind[0]} {kind[1]}, {kind[3]:,} items"
        parts = (recommender.name, f"{recommender.name}_topk", f"{recommender.name}_query")
        with tritonserver(bench, recommender.repository, *parts) as server:
            for report, concurrency in ((latency, 1), (rate, MANY)):
                results = asyncio.run(_ways(bench, server.ports["http"], recommender, concurrency))
                if report is latency:
                    values = {name: milliseconds(results[name]) for name in names}
                    shown = [spread(values[name]) for name in names]
                    gains = [ratios(results[names[0]], results[name]) for name in names[1:]]
                else:
                    values = {name: [concurrency * len(each) / sum(each) for each in results[name]] for name in names}
                    shown = [spread(values[name], 1) for name in names]
                    gains = [[a / b for a, b in zip(values[name], values[names[0]], strict=True)] for name in names[1:]]
                report.rows.append((model, *shown, *(spread(gain, 1) for gain in gains)))
                report.record[model] = {**values, **dict(zip(columns[3:], gains, strict=True))}
                report.targets.append((f"{model}: top-K at least 4 times", statistics.median(gains[0]) >= 4))
    return [latency, rate]


async def _ways(bench: Bench, port: int, recommender: Recommender, concurrency: int) -> dict[str, list[Times]]:
    client = Client(TritonPool(TritonAddress(LOOPBACK, port)), recommender)
    await client.check()

    def way(rank: Callable[[int], Awaitable[Ranked]]) -> Call:
        async def one() -> Times:
            return await timed(lambda: rank(client.user()), bench.seconds, 3 if concurrency == 1 else 1)

        async def many() -> Times:
            return [each for times in await asyncio.gather(*(one() for _ in range(concurrency))) for each in times]

        return many

    ways = {"every item": way(client.every_item), "top-K": way(client.topk), "query": way(client.query)}
    return await interleaved(bench, f"{recommender.name}, concurrency {concurrency}", ways)
