"""A client of Triton that ranks in three ways: by scoring every item, by a query, and by a query with conditions."""

from __future__ import annotations

import asyncio
import random
from array import array

import numpy as np

from benchmarks.rig.recommender import Recommender
from benchmarks.rig.tritonserver import Triton
from ncf.export.model_configs import MAX_BATCH_SIZE
from ncf.export.query import Query
from ncf.training.config import DEFAULT_K
from serve.supervisor.ports import LOOPBACK
from serve.triton import tensors
from serve.triton.address import TritonAddress
from serve.triton.pool import TritonPool

# Requests in flight of a client that scores every item: enough to keep Triton busy, few enough to need little memory.
IN_FLIGHT = 4
Ranked = tuple[list[int], list[float]]


class Client:
    """The three ways; each returns indices and scores of the K best items that the user has not seen."""

    def __init__(self, triton: Triton, recommender: Recommender) -> None:
        self.pool = TritonPool(lambda: TritonAddress(LOOPBACK, triton.ports["http"]))
        self.recommender, self.name = recommender, recommender.name
        self.chunks = []  # the items in batches: the request up to the users, and the number of rows
        for start in range(0, recommender.num_items, MAX_BATCH_SIZE):
            rows = min(MAX_BATCH_SIZE, recommender.num_items - start)
            item = np.arange(start, start + rows)
            both = {name: array("q", bytes(8 * rows)) for name in ("item_index", "user_index")}
            encoded = tensors.encode_int64(rows, (1,), both)
            self.chunks.append((encoded.body[: encoded.header_length] + item.tobytes(), encoded.header_length, rows))

    async def infer(self, model: str, request: tensors.TensorRequest) -> bytes:
        """The tensors of Triton's answer."""
        answer = await self.pool.request(b"POST", f"/v2/models/{model}/infer", request.body, request.header_length)
        if answer.status != 200 or answer.header_length is None:
            raise RuntimeError(f"Triton answers {answer.status} for {model}: {answer.body.decode(errors='replace')}")
        return answer.body[answer.header_length :]

    def user(self) -> int:
        """A random user."""
        return random.randrange(self.recommender.num_users)

    async def lone_user(self, user: int) -> Ranked:
        """A query of the user alone, as `serve` sends it."""
        return await self._query(array("q", (Query.USER, user)))

    async def excluding(self, user: int) -> Ranked:
        """A query that excludes three random items."""
        rows = array("q", (Query.USER, user))
        for _ in range(3):
            rows.extend((Query.EXCLUDE, random.randrange(self.recommender.num_items)))
        return await self._query(rows)

    async def _query(self, rows: array[int]) -> Ranked:
        request = tensors.encode_int64(1, (len(rows) // 2, 2), {"query": rows})
        return self._ranked(await self.infer(f"{self.name}_query", request))

    async def every_item(self, user: int) -> Ranked:
        """Score all items by the scoring model, and choose the best here."""
        scores = np.empty(self.recommender.num_items, np.float32)
        places = asyncio.Semaphore(IN_FLIGHT)

        async def part(number: int) -> None:
            head, length, rows = self.chunks[number]
            request = tensors.TensorRequest(head + np.full(rows, user).tobytes(), length)
            async with places:
                body = await self.infer(self.name, request)
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
        """Check that the ways agree; one excludes three more items, and rounding may change the last places."""
        user = self.user()
        item, score = await self.every_item(user)
        lone, excluding = await self.lone_user(user), await self.excluding(user)
        alike = [len(set(item) & set(other)) for other in (lone[0], excluding[0])]
        if not np.allclose(lone[1], score, atol=1e-4) or min(alike) < DEFAULT_K - 6:
            raise RuntimeError(f"{self.name}: the three ways have only {alike} of {DEFAULT_K} items in common")
