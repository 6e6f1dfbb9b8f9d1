"""The process of the open loop: when requests are due, and the figures of a window."""

from __future__ import annotations

from array import array

import pytest

from benchmarks.rig.open_loop import Plan, Stage
from benchmarks.rig.open_loop_process import quantile_ms, windows


def test_arrivals_follow_the_clock_and_not_the_answers() -> None:
    plan = Plan(1, [], [Stage(1000, 10), Stage(10, 10)], window=5)
    found = list(windows(plan, 100.0))
    assert [(each.stage, each.begin, each.end) for each in found] == [
        (0, 100, 105), (0, 105, 110), (1, 110, 115), (1, 115, 120)
    ]  # fmt: skip
    for each in found:
        assert each.pending == len(each.due)
        assert each.begin <= each.due[0] <= each.due[-1] <= each.end
    gaps = [late - early for early, late in zip(found[0].due, found[0].due[1:], strict=False)]
    assert abs(len(found[0].due) - 5000) < 500
    assert sum(gap > 0.002 for gap in gaps) / len(gaps) == pytest.approx(0.135, abs=0.03)  # e^-2 of a Poisson process


def test_a_late_sending_is_part_of_the_wait_and_is_reported() -> None:
    plan = Plan(1, [], [Stage(10, 10)], window=0)
    (window,) = windows(plan, 0.0)
    window.lags.extend([0.001] * 98 + [0.5, 0.5])
    window.answered(200, 0.75, 12.5)
    window.answered(503, 0.001, 3.0)
    window.counts["closed"] += 2
    figures = window.figures(0.0)
    assert figures["lag_ms"] == pytest.approx(500)
    assert figures["p99_ms"] == pytest.approx(750)
    assert figures["refused_p99_ms"] == pytest.approx(1)
    assert figures["accepted_per_s"] == pytest.approx(1 / 12.5)  # the last answer came after the end
    assert figures["requests_per_s"] == pytest.approx(98 / 12.5)
    assert figures["errors"] == {"503": 1, "closed": 2}
    assert quantile_ms(array("d"), 99) is None
