"""Overload is tried again after a random pause, within a budget; nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.client.results import AskError
from deploy.client.retries import Retries


def failing(*statuses: int, retry_after: float = 0) -> Callable[[], str]:
    left = list(statuses)

    def ask() -> str:
        if left:
            raise AskError(left.pop(0), "overloaded", "too many", retry_after=retry_after)
        return "answer"

    return ask


def retries(pauses: list[float], budget: float = 10, refill: float = 0.1) -> Retries:
    return Retries(budget=budget, refill=refill, pause=pauses.append, drawn=lambda low, high: high)


def test_overload_is_tried_again_with_growing_bounds() -> None:
    pauses: list[float] = []
    assert retries(pauses).call(failing(503, 429, 503)) == "answer"
    assert pauses == [0.1, 0.2, 0.4]


def test_the_services_own_pause_comes_first() -> None:
    pauses: list[float] = []
    assert retries(pauses).call(failing(503, retry_after=2)) == "answer"
    assert pauses == [2.1]


@pytest.mark.parametrize("status", [400, 404, 413, 500, 502, 504])
def test_nothing_else_is_tried_again(status: int) -> None:
    pauses: list[float] = []
    with pytest.raises(AskError):
        retries(pauses).call(failing(status))
    assert pauses == []


def test_attempts_are_bounded() -> None:
    pauses: list[float] = []
    with pytest.raises(AskError):
        retries(pauses).call(failing(*[503] * 9))
    assert len(pauses) == 4


def test_a_service_that_is_down_does_not_get_a_multiple_of_its_load() -> None:
    pauses: list[float] = []
    shared = retries(pauses, budget=6, refill=0.5)
    for _ in range(10):
        with pytest.raises(AskError):
            shared.call(failing(*[503] * 9))
    assert len(pauses) == 6
    for _ in range(2):
        shared.call(failing())
    assert shared.call(failing(503)) == "answer"
