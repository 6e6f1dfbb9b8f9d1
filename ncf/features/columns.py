"""One column of features: its kind, its values, and each row as values with weights.

category   a cell has one value: weight 1
list       a cell has several values, in a list or as `Comedy|Drama`: 1/√n each
words      a cell is text that most rows have to themselves: its words, 1/√n each
number     a cell lies between two knots, quantiles of the column: weights by nearness, 1 in sum (piecewise linear
           encoding, arXiv 2203.05556, section 3.1)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.errors import InputError, brief
from ncf.files.values import MISSING_WORDS

SEPARATOR = "|"
NUMBER = r"^-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][-+]?[0-9]+)?$"  # not 007, which is a code
CODES = 50  # most different whole numbers that are codes of categories, such as occupations; with more they are amounts
MAX_VALUES = 2**16  # of a column: the most frequent
MIN_ROWS = 2  # a value of one row says no more than the row's id
KNOTS = 12
WORD = r"[\p{L}\p{N}]+"


@dataclass(frozen=True)
class FeatureColumn:
    """A column as it was found in the features of the data; a value that was not there has no row in any model."""

    name: str
    kind: str
    values: tuple[str, ...] = ()
    knots: tuple[float, ...] = ()

    @property
    def num_values(self) -> int:
        return len(self.values) or len(self.knots)

    def encode(self, raw: pl.Series) -> pl.DataFrame:
        """The cells [N] as columns row, value (0..num_values-1) and weight; an empty or unknown cell has none.

        Raises InputError for cells that hold tables.
        """
        _require_values(raw, "the features")
        return _near_knots(raw, self.knots) if self.kind == "number" else self._weighted(_cells(raw, self.kind))

    def _weighted(self, cells: pl.DataFrame) -> pl.DataFrame:
        known = pl.DataFrame({"text": pl.Series(self.values, dtype=pl.String), "value": np.arange(len(self.values))})
        found = cells.join(known, on="text", maintain_order="left")
        weight = 1 / pl.len().over("row").sqrt()
        return found.select("row", "value", weight=weight.cast(pl.Float32))


def find_column(raw: pl.Series, in_data: npt.NDArray[np.bool_], shown: str) -> tuple[FeatureColumn | None, str]:
    """The column of cells [N], and what was done with it in words; None if it can say nothing.

    Values are taken from the rows of ids that are in the data. Raises InputError for cells that hold tables.
    """
    own = raw.filter(pl.Series(in_data))
    _require_values(raw, shown)
    if (amounts := _amounts(own)) is not None:
        knots = np.unique(np.quantile(amounts.to_numpy(), np.linspace(0, 1, KNOTS)))
        return FeatureColumn(raw.name, "number", knots=tuple(knots.tolist())), f"{raw.name}: a number"
    kind = _kind(own)
    cells = _cells(own, kind)
    if kind == "category" and _is_text(own) and cells["text"].is_unique().sum() * 2 > len(cells):
        kind, cells = "words", _cells(own, "words")
    counted = cells.group_by("text").len().sort("len", "text", descending=[True, False])
    several = counted.filter(pl.col("len") >= MIN_ROWS)
    several = several.filter(pl.col("len") < len(own))  # what every row has tells no rows apart
    if not len(several):
        return None, f"{raw.name}: left out, for {_useless(counted, len(own))}"
    kept = several.head(MAX_VALUES)
    what = {"category": "values", "list": "values, several in a cell", "words": "words"}[kind]
    words = f"{raw.name}: {len(kept):,} {what}"
    if len(kept) < len(counted):
        words += f" (of {len(counted):,}; the others are " + (
            f"rarer than the {MAX_VALUES:,} most frequent)" if len(several) > MAX_VALUES else "in one row or in all)"
        )
    return FeatureColumn(raw.name, kind, tuple(kept["text"].to_list())), words


def _useless(counted: pl.DataFrame, rows: int) -> str:
    if not len(counted):
        return "it is empty"
    if len(counted) == 1:
        return f"every row has '{brief(counted['text'][0])}'"
    return "no value or word is in two rows"


def _is_text(raw: pl.Series) -> bool:
    return raw.dtype in (pl.String, pl.Categorical, pl.Enum)


def _kind(raw: pl.Series) -> str:
    if isinstance(raw.dtype, pl.List | pl.Array):
        return "list"
    bars = _is_text(raw) and raw.cast(pl.String).str.contains(SEPARATOR, literal=True).any()
    return "list" if bars else "category"


def _require_values(raw: pl.Series, shown: str) -> None:
    kind = raw.dtype.inner if isinstance(raw.dtype, pl.List | pl.Array) else raw.dtype
    if kind in (pl.Struct, pl.Object, pl.Binary, pl.List, pl.Array):
        raise InputError(
            f"{shown}: column '{raw.name}' is of type {raw.dtype}; give text, numbers, true/false, dates, or lists of "
            "these"
        )


def _amounts(raw: pl.Series) -> pl.Series | None:
    """The numbers of a column; None if it has none, or they are codes."""
    if _is_text(raw) and not _present(raw).drop_nulls().str.contains(NUMBER).all():
        return None
    number = _as_float(raw)
    if number is None or (different := (number := number.drop_nulls()).n_unique()) < 2:
        return None
    repeats = different <= CODES and different * 2 <= len(number)
    return None if repeats and (number % 1 == 0).all() else number


def _as_float(raw: pl.Series) -> pl.Series | None:
    """Numbers and dates as float64, null for any other cell; None for types that have no numbers."""
    if raw.dtype in (pl.Date, pl.Datetime, pl.Time, pl.Duration):
        return raw.to_physical().cast(pl.Float64)
    if not (raw.dtype.is_numeric() or _is_text(raw)):
        return None
    number = (_present(raw) if _is_text(raw) else raw).cast(pl.Float64, strict=False)
    return number.set(~number.is_finite().fill_null(False), None)


def _present(raw: pl.Series) -> pl.Series:
    """Text without spaces around it; null where it is empty or a word for a missing value."""
    text = raw.cast(pl.String).str.strip_chars()
    return text.set((text == "") | text.str.to_lowercase().is_in(MISSING_WORDS), None)


def _cells(raw: pl.Series, kind: str) -> pl.DataFrame:
    """The different values of each cell, as columns row and text."""
    if isinstance(raw.dtype, pl.Array):
        raw = raw.arr.to_list()
    if raw.dtype.is_float():
        raw = raw.fill_nan(None)
    if kind == "words" and isinstance(raw.dtype, pl.List):
        raw = raw.cast(pl.List(pl.String)).list.join(" ")
    table = pl.DataFrame({"row": np.arange(len(raw)), "text": raw})
    if kind == "words":
        table = table.with_columns(pl.col("text").cast(pl.String).str.to_lowercase().str.extract_all(WORD))
    elif kind == "list" and not isinstance(raw.dtype, pl.List):
        table = table.with_columns(pl.col("text").cast(pl.String).str.split(SEPARATOR))
    if isinstance(table.schema["text"], pl.List):
        table = table.explode("text", empty_as_null=False)
    text = _present(table["text"]).str.replace(r"^(-?[0-9]+)\.0+$", "${1}")
    return table.with_columns(text=text).drop_nulls().unique(maintain_order=True)


def _near_knots(raw: pl.Series, knots: tuple[float, ...]) -> pl.DataFrame:
    """Each number by the two knots around it; one beyond the last knot has that knot's place."""
    number = _as_float(raw)
    found = np.full(len(raw), np.nan) if number is None else number.to_numpy()
    row = np.flatnonzero(~np.isnan(found))
    place = np.interp(found[row], knots, np.arange(len(knots)))
    low = np.minimum(place.astype(np.int64), max(0, len(knots) - 2))
    share = (place - low).astype(np.float32)
    both = pl.DataFrame({
        "row": np.concatenate([row, row]), "value": np.concatenate([low, low + 1]),
        "weight": np.concatenate([1 - share, share]),
    })  # fmt: skip
    return both.filter(pl.col("weight") > 0)
