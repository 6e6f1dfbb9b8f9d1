"""TorchServe's handlers: one forward for the requests of a batch; packed with peer_scorer.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import torch
from peer_scorer import Scorer


class Ranker(Scorer):
    """The query module beside the one for pairs; it ranks the whole catalogue without what a user has seen."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.query = torch.jit.load(f"{folder}/query.pt").eval()
        self.item_ids = list(self.items)

    def best(self, requests: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """The `k` best items of each request's user, from one forward for all users."""
        with torch.inference_mode():
            most = max(request["k"] for request in requests)  # no more of the 100 become objects of Python
            items, scores = self.rank([self.users[request["user_id"]] for request in requests], most)
            ranked = zip(items.tolist(), scores.tolist(), strict=True)
        # The index -1 is in place of items that do not exist, where the user has seen nearly all.
        return [
            [
                {"item_id": self.item_ids[item], "score": score}
                for item, score in zip(mine[: request["k"]], of_mine, strict=False)
                if item >= 0
            ]
            for request, (mine, of_mine) in zip(requests, ranked, strict=True)
        ]

    def rank(self, users: list[int], k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The k best items of each user, and their scores, both [B, k]."""
        items, scores = self.query(torch.tensor([[(self.query.USER, user)] for user in users]))
        return items[:, :k], scores[:, :k]


class PlainRanker(Ranker):
    """Ranks as one does without a query module: the module for pairs scores every item for each user."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        seen = np.load(f"{folder}/seen.npz")
        self.indptr, self.seen = seen["indptr"], torch.from_numpy(seen["items"])
        self.every = torch.arange(len(self.items))

    def rank(self, users: list[int], k: int) -> tuple[torch.Tensor, torch.Tensor]:
        pairs = torch.cartesian_prod(torch.tensor(users), self.every)
        scores = self.module(pairs[:, :1], pairs[:, 1:]).view(len(users), -1)
        for row, user in zip(scores, users, strict=True):
            row[self.seen[self.indptr[user] : self.indptr[user + 1]]] = -torch.inf
        best = scores.topk(k)
        return best.indices.masked_fill(best.values == -torch.inf, -1), best.values


_ranker: Ranker | None = None


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[dict[str, list[Any]]] | None:
    """The answers to a batch of requests; TorchServe's first call is without data, and loads the modules."""
    return _handle(Ranker, data, context)


def handle_plain(data: list[dict[str, Any]] | None, context: Any) -> list[dict[str, list[Any]]] | None:
    """As `handle`, without the query module."""
    return _handle(PlainRanker, data, context)


def _handle(kind: type[Ranker], data: list[dict[str, Any]] | None, context: Any) -> list[dict[str, list[Any]]] | None:
    global _ranker
    if _ranker is None:
        _ranker = kind(context.system_properties["model_dir"])
    if data is None:
        return None
    bodies = [request["body"] for request in data]
    documents = [body if isinstance(body, dict) else orjson.loads(bytes(body)) for body in bodies]
    pairs = [document["pairs"] for document in documents if "pairs" in document]
    users = [document for document in documents if "pairs" not in document]
    scores = iter(_ranker.score_all(pairs) if pairs else [])
    ranked = iter(_ranker.best(users) if users else [])
    return [{"scores": next(scores)} if "pairs" in each else {"recommendations": next(ranked)} for each in documents]
