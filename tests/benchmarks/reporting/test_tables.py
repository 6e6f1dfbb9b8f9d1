"""Points as numbers for people: digits, spreads, ratios by round, and flat frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reporting.tables import Spread, flat, last, number, ratio, table
from benchmarks.rig.points import Points


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"), (7, "7"), (12345, "12,300"), (1234.5, "1,230"), (999.6, "1,000"), (99.96, "100"), (0.38912, "0.389"),
        (0.01234, "0.0123"), (9.999, "10.0"), (-3.14159, "-3.14"), (1_048_576, "1,050,000"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, said: str) -> None:
    assert number(value) == said


def test_a_spread_that_is_none_is_not_shown() -> None:
    assert Spread((2.0, 2.0)).text() == "2.00"
    assert Spread((1.0, 3.0, 2.0)).text(" ×") == "2.00 × (1.00–3.00)"


def test_ratios_are_made_round_by_round(tmp_path: Path) -> None:
    points = Points(tmp_path, {})
    for number_, rate in enumerate((10.0, 20.0, 40.0)):
        points.add("a", {"round": number_}, {"requests_per_s": rate})
    for number_, rate in ((0, 5.0), (2, 10.0), (3, 1.0)):
        points.add("b", {"round": number_}, {"requests_per_s": rate})
    assert ratio(points.of("a"), points.of("b")).values == (2.0, 4.0)


def test_of_points_with_one_key_the_last_counts(tmp_path: Path) -> None:
    points = Points(tmp_path, {})
    points.add("a", {"x": 1, "y": 2}, {"first": 1})
    points.add("b", {"x": 1, "y": 2}, {"other": 1})
    points.add("a", {"y": 2, "x": 1}, {"second": 1})
    assert [point.figures for point in last(points.points)] == [{"second": 1}, {"other": 1}]


def test_a_frame_has_one_type_a_column(tmp_path: Path) -> None:
    points = Points(tmp_path, {})
    points.add("a", {"share": 0.5, "n": 1}, {"n": 2, "load_s": [1.0, 2.0], "by": {"role": 1}})
    points.add("a", {"share": "recovery", "n": 2}, {"by": {"role": 1.5}})
    frame = flat(points.of("a"))
    assert frame["share"].to_list() == ["0.5", "recovery"]
    assert frame["figure.n"].to_list() == [2, None]
    assert frame["load_s"].to_list() == ["1.0;2.0", None]
    assert frame["by.role"].to_list() == [1.0, 1.5]


def test_empty_columns_are_left_out() -> None:
    assert table(["a", "b", "c"], [["x", "–", "1"]]) == "| a | c |\n| --- | ---: |\n| x | 1 |"
