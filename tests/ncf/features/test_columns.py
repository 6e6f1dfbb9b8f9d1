"""The kind of a column of features, and its cells as values with weights."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from ncf.errors import InputError
from ncf.features.columns import CODES, MAX_VALUES, FeatureColumn, find_column


def found(cells: Sequence[Any], in_data: Sequence[bool] | None = None) -> tuple[FeatureColumn | None, str]:
    known = np.ones(len(cells), bool) if in_data is None else np.array(in_data)
    return find_column(pl.Series("x", cells, strict=False), known, "items.csv")


def column(cells: Sequence[Any]) -> FeatureColumn:
    made, words = found(cells)
    assert made is not None, words
    return made


def encoded(made: FeatureColumn, cells: Sequence[Any]) -> list[tuple[int, int, float]]:
    table = made.encode(pl.Series("x", cells, strict=False)).sort("row", "value")
    return [(row, value, round(weight, 4)) for row, value, weight in table.rows()]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["soup", "taco", "soup", "taco"], "category"),
        (["1", "25", "1", "25"], "category"),
        ([1, 25, 1, 25], "category"),
        ([True, False, True, False], "category"),
        (["007", "008", "007", "008"], "category"),
        (["Comedy|Drama", "Drama", "Comedy", "Drama"], "list"),
        ([["a", "b"], ["b"], ["a"], None], "list"),
        (["the red car", "a red bus", "the blue bus", "one train"], "words"),
        ([0.5, 1.5, 2.5, 0.5], "number"),
        (["0.5", "1.5", "nan", ""], "number"),
        (list(range(CODES + 1)), "number"),
        ([10, 20, 30, 40], "number"),
        ([date(2026, 1, 1) + timedelta(days=day) for day in range(60)], "number"),
    ],
)
def test_the_kind_is_found_by_the_cells(cells: list[Any], kind: str) -> None:
    assert column(cells).kind == kind


def test_a_category_is_one_value_and_an_unknown_or_empty_cell_none() -> None:
    made = column(["soup", "taco", "soup", "taco", "soup"])
    assert made.values == ("soup", "taco")
    assert encoded(made, ["taco", "pizza", None, " soup ", "NaN"]) == [(0, 1, 1.0), (3, 0, 1.0)]


def test_several_values_share_a_weight_of_one_in_squares() -> None:
    made = column(["Comedy|Drama", "Drama", "Comedy", "Drama|War|War", "War"])
    assert made.values == ("Drama", "Comedy", "War")
    assert encoded(made, ["Comedy|Drama|Comedy", "War|?"]) == [(0, 0, 0.7071), (0, 1, 0.7071), (1, 2, 1.0)]


def test_text_without_repeats_is_split_into_words_of_several_rows() -> None:
    made, words = found(["The Red Car", "a red bus", "the blue Bus!", "one train"])
    assert made is not None
    assert sorted(made.values) == ["bus", "red", "the"]
    assert words == "x: 3 words (of 8; the others are in one row or in all)"


def test_numbers_lie_between_knots() -> None:
    made = column([float(each) for each in range(100)] + [None, float("nan"), float("inf")])
    low, high = made.knots[0], made.knots[-1]
    assert (low, high) == (0.0, 99.0)
    assert encoded(made, [low - 5, high + 5, made.knots[3], None, float("nan")]) == [
        (0, 0, 1.0), (1, len(made.knots) - 1, 1.0), (2, 3, 1.0),
    ]  # fmt: skip
    weights = made.encode(pl.Series("x", [17.3])).sort("value")
    assert weights["weight"].sum() == pytest.approx(1)
    knots = [made.knots[value] for value in weights["value"]]
    assert np.dot(knots, weights["weight"]) == pytest.approx(17.3, abs=1e-4)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["soup"] * 5, "x: left out, for every row has 'soup'"),
        ([7] * 5, "x: left out, for every row has '7'"),
        ([2.5] * 5, "x: left out, for every row has '2.5'"),
        ([None, "", "nan", " "], "x: left out, for it is empty"),
        ([None, float("nan")], "x: left out, for it is empty"),
        (["q1", "w2", "e3", "r4"], "x: left out, for no value or word is in two rows"),
    ],
)
def test_a_column_that_says_nothing_is_left_out_and_said(cells: list[Any], words: str) -> None:
    assert found(cells) == (None, words)


def test_of_very_many_values_the_most_frequent_are_kept() -> None:
    cells = [f"maker {number % 100_000}" for number in range(200_000)] + ["maker 99999"] * 5
    made, words = found(cells)
    assert made is not None
    assert made.num_values == MAX_VALUES
    assert made.values[0] == "maker 99999"
    assert words == "x: 65,536 values (of 100,000; the others are rarer than the 65,536 most frequent)"


def test_only_rows_of_the_data_give_values() -> None:
    made, _ = found(["soup", "soup", "taco", "taco", "pho", "pho"], [True, True, True, True, False, False])
    assert made is not None
    assert made.values == ("soup", "taco")


@pytest.mark.parametrize("cells", [[{"a": 1}, {"a": 2}], [[{"a": 1}], [{"a": 2}]], [b"a", b"b"]])
def test_cells_that_are_tables_or_bytes_are_refused(cells: list[Any]) -> None:
    with pytest.raises(InputError, match=r"column 'x' is of type .*give text, numbers"):
        found(cells)


def test_one_bad_cell_of_a_new_table_costs_that_cell() -> None:
    made = column(["1.5", "2.5", "3.5", "4.5"])
    assert len(encoded(made, ["1.5", "unknown", "4.5"])) == 2
    assert encoded(made, [["1.5"]]) == []
    assert len(encoded(column(["the car", "the bus", "one bus"]), [["the"], None, ["a", "bus"]])) == 2
