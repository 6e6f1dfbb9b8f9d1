"""Recommendation requests in raw ids: checked, turned into indices, answered; no I/O."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve.errors import BadRequest, show
from serve.repository import Recommender

DEFAULT_K = 10
EXAMPLES = '{"user_id": "u17", "k": 10} or {"pairs": [{"user_id": "u17", "item_id": "pizza-03"}]}'
UNKNOWN = -1


@dataclass(frozen=True)
class RecommendRequest:
    """The k best items for one user; without a k as many as is usual and the model has."""

    user_id: int | str
    k: int | None = None


@dataclass(frozen=True)
class ScoreRequest:
    """Scores of (user, item) pairs, raw ids, in order."""

    pairs: tuple[tuple[int | str, int | str], ...]


def parse_request(document: Any) -> RecommendRequest | ScoreRequest:
    """A request from its JSON. Raises BadRequest that names the field, the value and what is expected."""
    if not isinstance(document, dict):
        raise BadRequest(f"the body is a JSON {_kind(document)}; send an object such as {EXAMPLES}")
    if "pairs" in document:
        _only(document, ("model", "pairs"))
        return ScoreRequest(_pairs(document["pairs"]))
    if "user_id" in document:
        _only(document, ("model", "user_id", "k"))
        k = document.get("k")
        if "k" in document and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
            raise BadRequest(f"k is {show(k)}; it must be a whole number of at least 1")
        return RecommendRequest(_id(document["user_id"], "user_id"), k)
    _only(document, ("model", "user_id", "k", "pairs"))
    raise BadRequest(f"the body asks for nothing; send {EXAMPLES}")


def check_size(request: RecommendRequest | ScoreRequest, recommender: Recommender) -> None:
    """Raises BadRequest for more than the models take or return."""
    if isinstance(request, ScoreRequest):
        if len(request.pairs) > recommender.max_pairs:
            raise BadRequest(
                f"pairs holds {len(request.pairs):,} pairs; {recommender.name} takes at most "
                f"{recommender.max_pairs:,} a request (max_batch_size in its config.pbtxt)"
            )
    elif request.k is not None and request.k > recommender.k:
        whole = recommender.k == len(recommender.items)
        raise BadRequest(
            f"k is {request.k}; {recommender.name} "
            + (f"knows {recommender.k} items" if whole else f"returns at most {recommender.k} (`ncf export --k`)")
        )


def user_column(request: RecommendRequest, recommender: Recommender) -> array[int]:
    """Input of the top-K model: the user's index, -1 for an unknown one."""
    return array("q", (recommender.users.index(request.user_id),))


def recommendations(
    request: RecommendRequest, recommender: Recommender, known: bool, outputs: Mapping[str, array[Any]]
) -> dict[str, Any]:
    """The answer to a RecommendRequest from the top-K model's outputs; places the model left empty are dropped."""
    raw = recommender.items.raw
    ranked = zip(outputs["item_index"][: request.k or DEFAULT_K], outputs["score"], strict=False)
    answer: dict[str, Any] = {
        "model_name": recommender.name,
        "model_version": recommender.version,
        "reason": "personal" if known else "popular",
        "recommendations": [{"item_id": raw(index), "score": score} for index, score in ranked if index >= 0],
    }
    if not known:
        answer["message"] = (
            f"user_id {show(request.user_id)} is unknown to {recommender.name}: these are its most popular items, "
            "scored by their number of interactions"
        )
    return answer


@dataclass(frozen=True)
class PairColumns:
    """Indices of the pairs whose ids are both known, and for each pair its row there or why it has none."""

    user_index: array[int]
    item_index: array[int]
    unknown: dict[int, str]


def pair_columns(request: ScoreRequest, recommender: Recommender) -> PairColumns:
    columns = PairColumns(array("q"), array("q"), {})
    user_of, item_of = recommender.users.index, recommender.items.index
    for row, (user_id, item_id) in enumerate(request.pairs):
        user, item = user_of(user_id), item_of(item_id)
        if user >= 0 and item >= 0:
            columns.user_index.append(user)
            columns.item_index.append(item)
        else:
            what = ("user_id", user_id) if user < 0 else ("item_id", item_id)
            columns.unknown[row] = f"{what[0]} {show(what[1])} is unknown"
    return columns


def scores(
    request: ScoreRequest, recommender: Recommender, columns: PairColumns, score: array[float]
) -> dict[str, Any]:
    """The answer to a ScoreRequest: scores in order, null where an id is unknown, and why."""
    answer: dict[str, Any] = {"model_name": recommender.name, "model_version": recommender.version}
    if not columns.unknown:
        answer["scores"] = score.tolist()
        return answer
    known = iter(score)
    answer["scores"] = [None if row in columns.unknown else next(known) for row in range(len(request.pairs))]
    answer["unknown"] = [{"row": row, "message": why} for row, why in columns.unknown.items()]
    return answer


def _pairs(value: Any) -> tuple[tuple[int | str, int | str], ...]:
    if not isinstance(value, list) or not value:
        raise BadRequest('pairs must be a list such as [{"user_id": "u17", "item_id": "pizza-03"}]')
    pairs = []
    for row, pair in enumerate(value):
        try:
            user_id, item_id = pair["user_id"], pair["item_id"]
            extra = len(pair) > 2
        except (KeyError, TypeError):
            raise BadRequest(f"pairs[{row}] is {show(pair)}; it needs user_id and item_id") from None
        if extra:
            _only(pair, ("user_id", "item_id"), f"pairs[{row}].")
        pairs.append((_id(user_id, "user_id", row), _id(item_id, "item_id", row)))
    return tuple(pairs)


def _id(value: Any, field: str, row: int | None = None) -> int | str:
    kind = type(value)
    if kind is str or kind is int:
        raw: int | str = value
        return raw
    where = field if row is None else f"pairs[{row}].{field}"
    raise BadRequest(f"{where} is {show(value)}; an id is a text or a whole number")


def _only(document: Mapping[str, Any], known: tuple[str, ...], where: str = "") -> None:
    for name in document:
        if name not in known:
            near = difflib.get_close_matches(name[:40], known, 1)  # its cost grows with the length of the name
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
            raise BadRequest(f"field {show(where + name)} is unknown; {hint}")


def _kind(value: Any) -> str:
    return {list: "list", str: "text", bool: "truth value", type(None): "null"}.get(type(value), "number")
