"""A table of features: a file in any form or a frame, with a row for each item or user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ncf.data.interactions import IdIndex
from ncf.data.tables import id_column, read_frame
from ncf.errors import InputError
from ncf.files.columns import SYNONYMS, missing_column, plain, quoted
from ncf.files.frames import as_polars
from ncf.files.reading import Columns
from ncf.files.values import as_text


@dataclass(frozen=True)
class FeatureTable:
    """Ids [N] as text, each once, and the other columns; `shown` is the table's name in messages."""

    ids: pl.Series
    columns: pl.DataFrame
    shown: str


def read_features(source: Any, what: str, columns: Columns, option: str) -> FeatureTable:
    """Read the features of `what`, item or user, from a path or a frame; `option` names the argument in messages.

    The column of ids has the name that it has in the data, or a usual one. Raises InputError for a table without ids,
    without another column, or with two rows for an id.
    """
    if isinstance(source, str | Path):
        frame, shown = read_frame(Path(source), option), str(source)
    else:
        frame, shown = as_polars(source, option), option
        if frame.is_empty():
            raise InputError(f"{shown} has no rows; give a row for each {what}")
    name = _id_name(frame, what, columns, shown)
    id_column(frame, name, shown, f"--{what}-column")  # raises for a row without an id
    text = frame.select(as_text(frame.schema[name], name)).to_series()
    ids = text.str.strip_chars().str.replace(r"^(-?[0-9]+)\.0+$", "${1}")
    if (repeated := ids.is_duplicated()).any():
        raise InputError(
            f"{shown} has {what} '{ids.filter(repeated)[0]}' in more than one row; keep one row for each {what} "
            "(several values go into one cell, such as Comedy|Drama)"
        )
    if len(frame.columns) < 2:
        raise InputError(f"{shown} has no column beside '{name}'; add one, such as category or price")
    return FeatureTable(ids, frame.drop(name), shown)


def ids_like(index: IdIndex, ids: pl.Series, shown: str) -> pl.Series:
    """Ids of a table in the type of a model's. Raises InputError for text where the model's ids are whole numbers."""
    if index.ids.dtype == pl.String:
        return ids
    numbers = ids.cast(pl.Int64, strict=False)
    if numbers.null_count():
        odd = ids.filter(numbers.is_null())[0]
        raise InputError(f"{shown} has the id '{odd}', and the ids of the model are whole numbers; correct it")
    return numbers


def _id_name(frame: pl.DataFrame, what: str, columns: Columns, shown: str) -> str:
    given = columns.item_id if what == "item" else columns.user_id
    for name in (given, f"{what}_id"):
        if name is not None and name in frame.columns:
            return name
    fitting = [name for name in frame.columns if plain(name) in SYNONYMS[what].split()]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            f"{shown} has {' and '.join(quoted(fitting))}, and each could be the {what}; rename the one with the ids "
            f"of the data to {what}_id"
        )
    raise missing_column(frame.columns, given or f"{what}_id", shown, f"--{what}-column")
