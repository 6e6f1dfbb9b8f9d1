"""Makes rows for a recommender's models from requests in raw ids, and answers in raw ids from the models' outputs.

No I/O.
"""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from serve.errors import BadRequest, show
from serve.recommend.asks import DEFAULT_K, Answer, RawId
from serve.recommend.id_files import IdFile
from serve.recommend.parse import CandidatesRequest, RankRequest, Request, ScoreRequest
from serve.recommend.recommender import Part, Recommender

Outputs = Mapping[str, Sequence[Any]]

# The kinds of a query's rows, as `ncf/export/query.py` reads them; a test compares them with that file's.
USER, HISTORY, SIMILAR, ALLOW, EXCLUDE, INCLUDE_SEEN, WHERE = 1, 2, 3, 4, 5, 6, 16
# Queries are padded to one of a few lengths, because Triton merges requests of the same shape only. A user without a
# condition is a query of one row, so that Triton makes batches of such users alone, which the model ranks faster.
SHORTEST_QUERY = 4


class Plan(NamedTuple):
    """The rows that a request sends to one part of the recommender, and how the part's outputs become the answer.

    `columns` are the part's inputs, flat, each row of the shape `shape`; with 0 `rows` no model is asked.
    """

    part: Part
    rows: int
    columns: dict[str, array[int]]
    shape: tuple[int, ...]
    finish: Callable[[Outputs], Answer]


def plan(request: Request, recommender: Recommender) -> Plan:
    """The plan of a request. Raises BadRequest if k is larger than the models' k, or if a column is unknown."""
    if isinstance(request, ScoreRequest):
        return _plan_score(request, recommender)
    _check(request, recommender)
    if isinstance(request, CandidatesRequest):
        return _plan_candidates(request, recommender)
    return _plan_query(request, recommender)


def _check(request: RankRequest | CandidatesRequest, recommender: Recommender) -> None:
    if request.k is not None and request.k > recommender.k and isinstance(request, RankRequest):
        raise BadRequest(f"k is {request.k}; {recommender.name} returns at most {recommender.k} (`ncf export --k`)")
    wanted = [("with", column) for column in request.columns]
    if isinstance(request, RankRequest):
        wanted += [("where", column) for column, _ in request.where]
    for field, column in wanted:
        if column not in recommender.columns:
            near = difflib.get_close_matches(column[:40], recommender.columns, 1)
            known = ", ".join(recommender.columns) or "none (`ncf export --items`)"
            hint = f"did you mean '{near[0]}'?" if near else f"its columns: {known}"
            raise BadRequest(f"{field} names {show(column)}, which {recommender.name} has no column for; {hint}")


def _plan_query(request: RankRequest, recommender: Recommender) -> Plan:
    """A ranking: the query has a row (kind, value) for whom or what it is for, and one for each condition."""
    index_of = recommender.items.index
    rows = array("q")
    unknown: list[RawId] = []

    def add(kind: int, ids: Sequence[RawId]) -> int:
        known = 0
        for raw in ids:
            index = index_of(raw)
            if index < 0:
                unknown.append(raw)
            else:
                known += 1
                rows.extend((kind, index))
        return known

    found = False
    if request.user_id is not None:
        user = recommender.users.index(request.user_id)
        found = user >= 0
        rows.extend((USER, user))
    if request.history is not None:
        found = add(HISTORY, request.history) > 0
    if request.item_id is not None:
        found = add(SIMILAR, (request.item_id,)) > 0
    add(EXCLUDE, request.exclude)
    if request.allow is not None and not add(ALLOW, request.allow):
        rows.extend((ALLOW, -1))  # no allowed item is known; without this row every item would be allowed
    if not request.exclude_seen:
        rows.extend((INCLUDE_SEEN, 0))
    empty = []
    for column, value in request.where:
        number, values = recommender.columns[column]
        code = values.code(value)
        if code < -1:
            empty.append(f"no item has {show(value)} in {show(column)}")
        rows.extend((WHERE + number, code))
    length = 1 if request.user_id is not None and len(rows) == 2 else SHORTEST_QUERY
    while length * 2 < len(rows):
        length *= 4
    rows.extend((0,) * (2 * length - len(rows)))

    def finish(outputs: Outputs) -> Answer:
        answer = _ranked(request, recommender, outputs, found, tuple(dict.fromkeys(unknown)))
        if empty:
            answer["message"] = "; ".join([*([answer["message"]] if "message" in answer else []), *empty])
        return answer

    return Plan(recommender.query, 1, {"query": rows}, (length, 2), finish)


def _ranked(
    request: RankRequest, recommender: Recommender, outputs: Outputs, found: bool, unknown: tuple[RawId, ...]
) -> Answer:
    """The answer to a RankRequest, without the places that the model left empty (index -1)."""
    answer = _answer(recommender)
    places = zip(outputs["item_index"][: request.k or DEFAULT_K], outputs["score"], strict=False)
    if not found:
        answer["reason"] = "popular"
    elif request.user_id is not None:
        answer["reason"] = "personal"
    else:
        answer["reason"] = "history" if request.history is not None else "similar"
    ranked = [(index, score) for index, score in places if index >= 0]
    answer["recommendations"] = _items(ranked, recommender, request.columns)
    if not found:
        if request.history is not None:
            who = "no item of the history is known"
        elif request.user_id is not None:
            who = f"user_id {show(request.user_id)} is unknown"
        else:
            who = f"item_id {show(request.item_id)} is unknown"
        answer["message"] = (
            f"{who} to {recommender.name}: these are its most popular items, scored by their number of interactions"
        )
    if unknown:
        answer["unknown_items"] = list(unknown)
    return answer


def _items(
    ranked: Sequence[tuple[int, float]], recommender: Recommender, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    raw = recommender.items.raw
    if not names:
        return [{"item_id": raw(index), "score": score} for index, score in ranked]
    columns = [recommender.columns[name][1] for name in names]
    return [
        {"item_id": raw(index), "score": score, **{column.name: column.value(index) for column in columns}}
        for index, score in ranked
    ]


def _plan_candidates(request: CandidatesRequest, recommender: Recommender) -> Plan:
    user = recommender.users.index(request.user_id)
    index_of = recommender.items.index
    places = [(index_of(raw), raw) for raw in request.candidates]
    known = array("q", [index for index, _ in places if index >= 0])
    unknown = [raw for index, raw in places if index < 0]

    def finish(outputs: Outputs) -> Answer:
        score = outputs["score"] if user >= 0 else [float(recommender.counts[index]) for index in known]
        answer = _answer(recommender)
        answer["reason"] = "personal" if user >= 0 else "popular"
        best = sorted(zip(known, score, strict=True), key=lambda place: -place[1])  # stable: ties stay as they came
        ranked = _items(best[: request.k], recommender, request.columns)
        if request.k is None or len(ranked) < request.k:
            ranked += [{"item_id": raw} for raw in unknown][: None if request.k is None else request.k - len(ranked)]
        answer["recommendations"] = ranked
        if user < 0:
            answer["message"] = (
                f"user_id {show(request.user_id)} is unknown to {recommender.name}: the items are in the order of "
                "their popularity, scored by their number of interactions"
            )
        if unknown:
            answer["unknown_items"] = list(dict.fromkeys(unknown))
        return answer

    if user < 0 or not known:
        return Plan(recommender.score, 0, {}, (1,), finish)
    columns = {"user_index": array("q", (user,)) * len(known), "item_index": known}
    return Plan(recommender.score, len(known), columns, (1,), finish)


def _plan_score(request: ScoreRequest, recommender: Recommender) -> Plan:
    users, items = _indices(request.user, recommender.users), _indices(request.item, recommender.items)
    unknown: dict[int, str] = {}
    if min(users) < 0 or min(items) < 0:
        for row, (user, item) in enumerate(zip(users, items, strict=True)):
            if user < 0 or item < 0:
                field, raw = ("user_id", request.user[row]) if user < 0 else ("item_id", request.item[row])
                unknown[row] = f"{field} {show(raw)} is unknown"
        kept = [row for row in range(len(users)) if row not in unknown]
        users = array("q", [users[row] for row in kept])
        items = array("q", [items[row] for row in kept])

    def finish(outputs: Outputs) -> Answer:
        answer = _answer(recommender)
        score = outputs["score"]
        if not unknown:
            answer["scores"] = list(score)
            return answer
        known = iter(score)
        answer["scores"] = [None if row in unknown else next(known) for row in range(len(request.user))]
        answer["unknown"] = [{"row": row, "message": why} for row, why in unknown.items()]
        return answer

    return Plan(recommender.score, len(users), {"user_index": users, "item_index": items}, (1,), finish)


def _indices(ids: list[RawId] | array[int], file: IdFile) -> array[int]:
    """Indices of raw ids; an index given as such is unknown (-1) if it lies outside the data."""
    if isinstance(ids, array):
        size = len(file)
        return array("q", [index if 0 <= index < size else -1 for index in ids])
    return file.indices(ids)


def _answer(recommender: Recommender) -> Answer:
    return {"model_name": recommender.name, "model_version": recommender.version}
