"""Metadata of items, such as title and category, from a file with one row for each item."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ncf.data.interactions import IdIndex, IntArray
from ncf.data.tables import id_column, read_frame
from ncf.errors import InputError

log = logging.getLogger(__name__)

MAX_COLUMNS = 32
# Names of fields in the answers of `serve`.
RESERVED = ("item_id", "score")
# Other numbers, such as 007 and 1e3, stay text: written as numbers they would look different.
DECIMAL = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?$"


@dataclass(frozen=True)
class ItemColumn:
    """One column: its distinct values as text, and for each item the index of its value, int64 [num_items].

    The code of an item without a value is -1. `kind` is the type of the values in the file: text, integer, number or
    boolean.
    """

    name: str
    kind: str
    values: IdIndex
    codes: IntArray


def read_items(path: Path, items: IdIndex, item_column: str = "item_id") -> list[ItemColumn]:
    """Read the columns of a CSV, TSV or Parquet file for the items of a model; rows of other items are left out.

    Raises InputError that names the file, the column and the remedy.
    """
    frame = read_frame(path, "--items")
    ids = id_column(frame, item_column, path, "--item-column")
    if (repeated := ids.is_duplicated()).any():
        raise InputError(
            f"{path} has item '{ids.filter(repeated)[0]}' in more than one row; keep one row for each item"
        )
    names = [name for name in frame.columns if name != item_column]
    if not names:
        raise InputError(f"{path} has no column beside '{item_column}'; add one, such as title or category")
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{path} has {len(names)} columns beside '{item_column}'; at most {MAX_COLUMNS} are taken")
    for name in names:
        if not name.strip():
            raise InputError(f"{path} has a column without a name; name it, or leave it out")
        if name in RESERVED:
            raise InputError(f"{path} has a column '{name}', which is the name of a field in every answer; rename it")
    row = IdIndex(ids).encode(items.ids)
    known = row >= 0
    if not known.any():
        raise InputError(f"{path} has none of the model's {len(items):,} items (such as '{items.ids[0]}')")
    if not known.all():
        missing = items.ids[int(np.flatnonzero(~known)[0])]
        log.warning("%s has no row for %d of %d items, such as '%s'", path, (~known).sum(), len(items), missing)
    return [_column(frame[name], row, known, path) for name in names]


def _column(raw: pl.Series, row: IntArray, known: np.typing.NDArray[np.bool_], path: Path) -> ItemColumn:
    kind, text = _as_text(raw, path)
    values = IdIndex.of(text.drop_nulls())
    codes = np.full(len(row), -1, np.int64)
    # encode() returns -1 for a null
    codes[known] = values.encode(text.gather(row[known]))
    return ItemColumn(raw.name, kind, values, codes)


def _as_text(raw: pl.Series, path: Path) -> tuple[str, pl.Series]:
    """The kind of the values, and the values as text; empty text counts as no value."""
    if raw.dtype in (pl.Categorical, pl.Enum):
        raw = raw.cast(pl.String)
    if raw.dtype == pl.String:
        text = raw.set(raw.str.strip_chars() == "", None)
        present = text.drop_nulls()
        number = present.cast(pl.Int64, strict=False)
        if len(present) and (number.cast(pl.String) == present).fill_null(False).all():
            return "integer", text
        if len(present) and present.is_in(["true", "false"]).all():
            return "boolean", text
        if len(present) and present.str.contains(DECIMAL).all():
            return "number", _decimals(text.cast(pl.Float64))
        return "text", text
    if raw.dtype.is_integer():  # readers of JSON agree on whole numbers of 64 bits only
        fits = raw.cast(pl.Int64, strict=False).null_count() == raw.null_count()
        return "integer" if fits else "text", raw.cast(pl.String)
    if raw.dtype == pl.Float32:  # via float32's own text, so that .1 stays .1
        return "number", _decimals(
            raw.set(~raw.is_finite().fill_null(False), None), lambda value: str(np.float32(value))
        )
    if raw.dtype.is_float():
        return "number", _decimals(raw.set(~raw.is_finite().fill_null(False), None))
    if raw.dtype in (pl.Date, pl.Datetime, pl.Decimal, pl.Null):
        return "text", raw.cast(pl.String)
    if raw.dtype == pl.Boolean:
        return "boolean", raw.cast(pl.String)
    raise InputError(f"{path}: column '{raw.name}' is of type {raw.dtype}; give text, numbers or true/false")


def _decimals(raw: pl.Series, write: Callable[[float], str] = str) -> pl.Series:
    """Numbers as Python writes them: `serve` compares the number in a filter in the same form."""
    return pl.Series(raw.name, [None if value is None else repr(float(write(value))) for value in raw], pl.String)
