"""Data frames of any library as Polars frames."""

from __future__ import annotations

from typing import Any

import polars as pl

from ncf.errors import InputError
from ncf.files.table import Table


def as_polars(frame: Any, what: str) -> pl.DataFrame:
    """A frame of Polars, pandas, Arrow, or anything that speaks Arrow's interface for C; a dict of columns, too.

    Raises InputError for anything else; `what` names the argument.
    """
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, dict):
        return pl.DataFrame(frame)
    if hasattr(frame, "iloc") and hasattr(frame, "columns"):  # pandas, without the need of pyarrow
        return pl.DataFrame({str(name): _column(frame[name]) for name in frame.columns})
    if hasattr(frame, "__arrow_c_stream__"):
        return pl.DataFrame(frame)
    raise InputError(f"{what} is a {type(frame).__name__}; give a frame of pandas, Polars or Arrow, or a path")


def _column(column: Any) -> pl.Series:
    values = column.to_numpy()
    if values.dtype != object:
        return pl.Series(values)
    missing = column.isna().to_numpy()
    return pl.Series([None if gone else value for value, gone in zip(values, missing, strict=True)], strict=False)


def table_of(frame: pl.DataFrame) -> Table | None:
    """The frame as the table of a file; None without rows."""
    if frame.is_empty():
        return None
    return Table("the frame", frame.lazy(), tuple(frame.columns), dict(frame.schema))
