from __future__ import annotations

import asyncio
from array import array
from collections.abc import Mapping
from typing import Any

import pytest

from serve.errors import TritonFailed
from serve.recommend.batches import answer_plans
from serve.recommend.plan import Answer, Plan
from serve.recommend.recommender import Part

pytestmark = pytest.mark.core

SCORE, QUERY = Part("m", 4), Part("m_query", 2)


class Echo:
    """Every model answers each row with two copies of the first value of its first input."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []

    async def __call__(
        self, part: Part, shape: tuple[int, ...], rows: int, columns: Mapping[str, array[int]]
    ) -> dict[str, array[Any]]:
        self.calls.append((part.model_name, [rows, *shape]))
        assert rows <= part.max_batch_size
        values = columns["x"]
        width = len(values) // rows
        await asyncio.sleep(0)
        return {"out": array("q", [value for row in range(rows) for value in [values[row * width]] * 2])}


def made(part: Part, values: list[int], shape: tuple[int, ...] = (1,), rows: int | None = None) -> Plan:
    def finish(outputs: Any) -> Answer:
        return {"out": list(outputs.get("out", ()))}

    return Plan(part, len(values) if rows is None else rows, {"x": array("q", values)}, shape, finish)


def answers(*plans: Plan) -> tuple[list[Any], list[tuple[str, list[int]]]]:
    echo = Echo()
    found = asyncio.run(answer_plans(plans, echo))
    return [answer["out"] for answer in found], echo.calls


def test_one_request_is_one_call() -> None:
    assert answers(made(SCORE, [7, 8])) == ([[7, 7, 8, 8]], [("m", [2, 1])])


def test_rows_of_many_requests_share_calls_and_find_their_way_back() -> None:
    found, calls = answers(made(SCORE, [1]), made(SCORE, [2, 3, 4]), made(SCORE, [5, 6]))
    assert found == [[1, 1], [2, 2, 3, 3, 4, 4], [5, 5, 6, 6]]
    assert sorted(calls) == [("m", [2, 1]), ("m", [4, 1])]


def test_a_request_larger_than_a_batch_is_cut_and_joined() -> None:
    found, calls = answers(made(SCORE, list(range(10))))
    assert found == [[value for value in range(10) for _ in range(2)]]
    assert [shape for _, shape in calls] == [[4, 1], [4, 1], [2, 1]]


def test_only_queries_of_one_length_share_a_call() -> None:
    short, other, long = (made(QUERY, [kind] * size, (size // 2, 2), 1) for kind, size in ((1, 8), (2, 8), (3, 32)))
    found, calls = answers(short, long, other)
    assert found == [[1, 1], [3, 3], [2, 2]]
    assert sorted(calls) == [("m_query", [1, 16, 2]), ("m_query", [2, 4, 2])]


def test_a_plan_without_rows_needs_no_model() -> None:
    assert answers(made(SCORE, [])) == ([[]], [])
    assert answers(made(SCORE, []), made(SCORE, [3])) == ([[], [3, 3]], [("m", [1, 1])])


def test_what_the_model_raises_is_raised() -> None:
    async def broken(*_: Any) -> dict[str, array[Any]]:
        raise TritonFailed("no")

    with pytest.raises(TritonFailed):
        asyncio.run(answer_plans([made(SCORE, [1]), made(SCORE, [2])], broken))
