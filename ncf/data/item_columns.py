"""Metadata of items, such as title and category, from a file with one row for each item."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from ncf.data.interactions import IdIndex, IntArray
from ncf.data.tables import id_column, read_frame
from ncf.errors import InputError
from ncf.files.values import as_text

log = logging.getLogger(__name__)

MAX_COLUMNS = 32
MAX_VALUES = 100  # of one item in a list column: `serve` builds such a list for each item of an answer
# Names of fields in the answers of `serve`.
RESERVED = ("item_id", "score")
# Other numbers, such as 007 and 1e3, stay text: written as numbers they would look different.
DECIMAL = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?$"
BOOLEANS = ("true", "false", "True", "False", "TRUE", "FALSE")
SEPARATOR = "|"


@dataclass(frozen=True)
class ItemColumn:
    """One column: its distinct values as text, and the indices of each item's values, `codes` int64.

    `kind` is the type of the values: text, integer, number or boolean. By the column's `form`,

    one    an item has one value, or none, whose code is -1: codes [num_items]
    list   the values of item i are codes[starts[i]:starts[i + 1]], distinct, in the file's order
    bars   the same for text such as `Comedy|Drama`: the text itself is the first value, its parts are the others
    """

    name: str
    kind: str
    values: IdIndex
    codes: IntArray
    form: Literal["one", "list", "bars"] = "one"
    starts: IntArray | None = None


def read_items(path: Path, items: IdIndex, item_column: str = "item_id") -> list[ItemColumn]:
    """Read the columns of a CSV, TSV or Parquet file for the items of a model; rows of other items are left out.

    Raises InputError that names the file, the column and the remedy.
    """
    return columns_of(read_frame(path, "--items"), items, item_column, str(path))


def columns_of(frame: pl.DataFrame, items: IdIndex, item_column: str, path: str) -> list[ItemColumn]:
    """The columns of a frame for the items of a model, as `read_items`; `path` is its name in messages."""
    ids = id_column(frame, item_column, path, "--item-column")
    if items.ids.dtype == pl.String:  # ids of text are compared as they are written
        ids = frame.select(as_text(frame.schema[item_column], item_column)).to_series()
    elif ids.dtype == pl.String:
        ids = _whole(ids)
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
        raise InputError(
            f"{path} has none of the model's {len(items):,} items: an id in '{item_column}' is '{ids[0]}', an id of "
            f"the model '{items.ids[0]}'; give the ids of the data that the model was trained on"
        )
    if not known.all():
        missing = items.ids[int(np.flatnonzero(~known)[0])]
        log.warning("%s has no row for %d of %d items, such as '%s'", path, (~known).sum(), len(items), missing)
    return [_column(_readable(frame[name], path), row, path) for name in names]


def items_of_values(column: ItemColumn) -> tuple[IntArray, IntArray]:
    """The items of each value of a column whose items may have several, as CSR: int64 [num_values + 2] and [N].

    Row 0 are the items without a value, row 1 + c the items with the value of code c.
    """
    assert column.starts is not None
    number = np.diff(column.starts)
    empty = np.flatnonzero(number == 0)
    value = np.concatenate([np.full(len(empty), -1), column.codes])
    item = np.concatenate([empty, np.repeat(np.arange(len(number)), number)])
    counts = np.bincount(value + 1, minlength=len(column.values) + 1)
    return np.concatenate([np.zeros(1, np.int64), counts.cumsum()]), item[np.argsort(value, kind="stable")]


def _whole(text: pl.Series) -> pl.Series:
    """Ids with those that are written as 7.0 as 7."""
    return text.str.replace(r"^(-?[0-9]+)\.0+$", "${1}")


def _readable(raw: pl.Series, path: str) -> pl.Series:
    """Bytes as text, because writers of Parquet that know no text write UTF-8 as bytes. Raises InputError."""
    if raw.dtype != pl.Binary:
        return raw
    try:
        return raw.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: column '{raw.name}' holds bytes that are not UTF-8; write it as text") from error


def _column(raw: pl.Series, row: IntArray, path: str) -> ItemColumn:
    """The column of items whose rows in the file are `row` [num_items], -1 for an item without a row."""
    if isinstance(raw.dtype, pl.Array):
        raw = raw.arr.to_list()
    if isinstance(raw.dtype, pl.List):
        kind, each = _elements(raw, path)
        longest = each.group_by("row", maintain_order=True).len().filter(pl.col("len") > MAX_VALUES)
        if len(longest):
            raise InputError(
                f"{path}: column '{raw.name}' has {longest['len'][0]:,} values in row {longest['row'][0] + 1}; an item "
                f"may have {MAX_VALUES} in a column"
            )
        return _of_many(raw.name, kind, each, row, "list")
    kind, text = _as_text(raw, path)
    if kind == "text" and text.str.contains(SEPARATOR, literal=True).any():
        return _of_many(raw.name, kind, _parts(text), row, "bars")
    values = IdIndex.of(text.drop_nulls())
    codes = np.full(len(row), -1, np.int64)
    # encode() returns -1 for a null
    codes[row >= 0] = values.encode(text.gather(row[row >= 0]))
    return ItemColumn(raw.name, kind, values, codes)


def _of_many(name: str, kind: str, each: pl.DataFrame, row: IntArray, form: Literal["list", "bars"]) -> ItemColumn:
    """A column from its values with their rows (columns row and value)."""
    values = IdIndex.of(each["value"])
    wanted = pl.DataFrame({"item": np.arange(len(row)), "row": row})
    found = wanted.join(each, on="row", maintain_order="left_right")
    number = np.bincount(found["item"].to_numpy(), minlength=len(row))
    starts = np.concatenate([np.zeros(1, np.int64), number.cumsum()])
    return ItemColumn(name, kind, values, values.encode(found["value"]), form, starts)


def _elements(raw: pl.Series, path: str) -> tuple[str, pl.DataFrame]:
    """The kind of a list column's values, and the distinct values of each row, as columns row and value."""
    table = pl.DataFrame({"row": np.arange(len(raw)), "value": raw}).explode("value", empty_as_null=False)
    kind, text = _as_text(_readable(table["value"].alias(raw.name), path), path)
    each = pl.DataFrame({"row": table["row"], "value": text}).drop_nulls()
    return kind, each.unique(maintain_order=True)


def _parts(text: pl.Series) -> pl.DataFrame:
    """Each text and then its parts between bars, as columns row and value."""
    whole = pl.DataFrame({"row": np.arange(len(text)), "value": text}).drop_nulls()
    parts = (
        whole.with_columns(pl.col("value").str.split(SEPARATOR))
        .explode("value", empty_as_null=False)
        .with_columns(pl.col("value").str.strip_chars())
        .filter(pl.col("value") != "")
    )
    return pl.concat([whole, parts]).unique(maintain_order=True)


def _as_text(raw: pl.Series, path: str) -> tuple[str, pl.Series]:
    """The kind of the values, and the values as text; empty text counts as no value."""
    if raw.dtype in (pl.Categorical, pl.Enum):
        raw = raw.cast(pl.String)
    if raw.dtype == pl.String:
        text = raw.set(raw.str.strip_chars() == "", None)
        present = text.drop_nulls()
        number = present.cast(pl.Int64, strict=False)
        if len(present) and (number.cast(pl.String) == present).fill_null(False).all():
            return "integer", text
        if len(present) and present.is_in(BOOLEANS).all():
            return "boolean", text.str.to_lowercase()
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
    raise InputError(
        f"{path}: column '{raw.name}' is of type {raw.dtype}; give text, numbers, true/false, or lists of these"
    )


def _decimals(raw: pl.Series, write: Callable[[float], str] = str) -> pl.Series:
    """Numbers as Python writes them: `serve` compares the number in a filter in the same form."""
    return pl.Series(raw.name, [None if value is None else repr(float(write(value))) for value in raw], pl.String)
