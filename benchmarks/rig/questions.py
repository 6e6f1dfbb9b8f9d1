"""The same questions, users and items, in the form that each server reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.rig.recommender import Recommender
from benchmarks.rig.run import BODIES
from ncf.export.query import Query

TOP = "top 10"
ASKS = {"1 pair": 1, "100 pairs": 100, TOP: 1}
K = 10
ALL = 100  # items that an exported model ranks, and that Triton answers with


@dataclass(frozen=True)
class Question:
    """Pairs to score, or with `top` the best items of the first user; `user_index` and `item_index` are [rows]."""

    recommender: Recommender
    top: bool
    user_index: npt.NDArray[np.int64]
    item_index: npt.NDArray[np.int64]

    @property
    def query(self) -> npt.NDArray[np.int64]:
        """A query for each user, int64 [rows, 1, 2]."""
        return np.stack([np.full_like(self.user_index, Query.USER), self.user_index], axis=1)[:, None]

    @property
    def user_ids(self) -> list[str]:
        return [str(self.recommender.run.users.ids[int(index)]) for index in self.user_index]

    @property
    def item_ids(self) -> list[str]:
        return [str(self.recommender.run.items.ids[int(index)]) for index in self.item_index]


Form = Callable[[Question], bytes]


def questions(recommender: Recommender, asked: str, number: int) -> list[Question]:
    """The BODIES random questions of a round; a round has the same questions for every server."""
    rng = np.random.default_rng([number, len(asked)])
    shape = (BODIES, ASKS[asked])
    users, items = (rng.integers(count, size=shape) for count in (recommender.num_users, recommender.num_items))
    return [Question(recommender, asked == TOP, *each) for each in zip(users, items, strict=True)]


def as_kserve(question: Question) -> bytes:
    """KServe-v2 JSON for the scoring model, or with `top` for the query model."""
    columns: dict[str, npt.NDArray[np.int64]] = {
        "user_index": question.user_index[:, None], "item_index": question.item_index[:, None],
    }  # fmt: skip
    if question.top:
        columns = {"query": question.query}
    inputs = [
        {"name": name, "datatype": "INT64", "shape": values.shape, "data": values.ravel().tolist()}
        for name, values in columns.items()
    ]
    return orjson.dumps({"inputs": inputs})


def as_pairs(question: Question) -> bytes:
    pairs = zip(question.user_ids, question.item_ids, strict=True)
    return orjson.dumps({"pairs": [{"user_id": user, "item_id": item} for user, item in pairs]})


def as_csv(question: Question) -> bytes:
    pairs = zip(question.user_ids, question.item_ids, strict=True)
    return "".join(f"{user},{item}\n" for user, item in pairs).encode()


def as_top(question: Question, k: int = K) -> bytes:
    return orjson.dumps({"user_id": question.user_ids[0], "k": k})
