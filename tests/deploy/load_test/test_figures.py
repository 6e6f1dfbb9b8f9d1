"""Percentiles, the figures of a step, and its limits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from deploy.load_test.figures import Limits, Step, measured, percentile_ms
from deploy.load_test.open_loop import Sent

LIMITS = Limits(p99_ms=200, errors_percent=1)


def step(**given: Any) -> Step:
    figures: dict[str, Any] = {
        "asked_per_s": 100.0, "answered_per_s": 99.0, "requests": 1000, "p50_ms": 4.0, "p95_ms": 9.0, "p99_ms": 20.0,
        "errors": {}, "late_ms": 0.1,
    }  # fmt: skip
    return Step(**figures | given)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50_000), (95, 95_000), (99, 99_000), (100, 100_000), (1, 1000)])
def test_a_percentile_is_a_latency_that_was_measured(percent: float, expected: float) -> None:
    assert percentile_ms(range(1, 101), percent) == expected
    assert percentile_ms([0.007], percent) == 7
    assert percentile_ms([], percent) is None


def test_a_step_joins_what_all_processes_sent() -> None:
    one = Sent([0.1, 0.3], [0.0, 0.0, 0.02], Counter({"503": 1}), {"503": "overloaded"}, last=11.5, unsent=4)
    other = Sent([0.2], [0.01], Counter(), {}, last=9.0)
    made = measured(rate=4, start=10.0, seconds=1.0, parts=[one, other, Sent()])
    assert made == Step(4, 2.0, 4, 200.0, 300.0, 300.0, {"503": 1}, 20.0, 4, {"503": "overloaded"})
    assert made.errors_percent == 25


def test_without_an_answer_there_is_no_percentile() -> None:
    made = measured(2, 10.0, 1.0, [Sent(late=[0.0], errors=Counter({"timeout": 1}))])
    assert (made.answered_per_s, made.p50_ms, made.p99_ms) == (0, None, None)
    assert made.over(LIMITS) == "100 % of the requests failed, and --errors-percent is 1"
    assert made.over(Limits(200, 100)) == "the p99 is – ms, and --p99-ms is 200"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ""),
        ({"p99_ms": 200.0}, ""),
        ({"p99_ms": 200.5}, "the p99 is 200 ms, and --p99-ms is 200"),
        ({"p99_ms": 1234.0}, "the p99 is 1,234 ms, and --p99-ms is 200"),
        ({"errors": {"503": 10}}, ""),
        ({"errors": {"503": 10, "429": 1}}, "1.1 % of the requests failed, and --errors-percent is 1"),
        ({"unsent": 1200}, "so many requests waited for an answer that 1,200 more were not sent"),
    ],
)
def test_a_step_over_a_limit_says_which(given: dict[str, Any], expected: str) -> None:
    assert step(**given).over(LIMITS) == expected


def test_a_generator_that_is_late_by_a_tenth_of_the_limit_is_late() -> None:
    assert not step(late_ms=20.0).is_late(LIMITS)
    assert step(late_ms=20.1).is_late(LIMITS)


def test_a_step_is_one_line() -> None:
    assert str(step(asked_per_s=1234.5, errors={"503": 1200, "429": 2}, unsent=3)) == (
        "   1,234/s asked       99/s answered   p50    4.0   p95    9.0   p99   20.0 ms   "
        "2 × 429, 1,200 × 503, 3 not sent"
    )
    assert str(step()).endswith("ms   no errors")
