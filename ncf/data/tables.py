"""Read interactions and other tables from CSV, TSV and Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from ncf.data.interactions import Columns, Interactions, count_indices, from_table, require_two
from ncf.data.values import (
    as_ids,
    check_times,
    check_weights,
    id_text,
    missing_column,
    reading_of_times,
    time_of,
    unreadable_times,
    weight_of,
)
from ncf.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".parquet")


def read_interactions(path: Path, columns: Columns | None = None) -> Interactions:
    """Read interactions from a CSV, TSV or Parquet file with a header.

    Raises InputError that names the file, the column, the first bad row and the remedy.
    """
    columns = columns or Columns()
    frame = read_frame(path, "--data")
    lazy = frame.lazy()
    values = {
        "user": id_column(frame, columns.user_id, path, "--user-column"),
        "item": id_column(frame, columns.item_id, path, "--item-column"),
    }
    if has_column(frame.columns, columns, "weight", path):
        check_weights(lazy, columns.weight, path)
        values["weight"] = frame.select(weight_of(columns.weight)).to_series()
    if has_column(frame.columns, columns, "timestamp", path):
        reading = reading_of_times([unreadable_times(lazy, columns.timestamp, path)], [path])
        check_times(lazy, columns.timestamp, path, reading)
        dtype = frame.schema[columns.timestamp]
        values["timestamp"] = frame.select(time_of(columns.timestamp, dtype, reading)).to_series()
    interactions = from_table(pl.DataFrame(values))
    counts = count_indices(interactions.user_index, interactions.num_users)
    require_two(interactions.users, interactions.items, counts, path)
    return interactions


def has_column(names: Sequence[str], columns: Columns, what: str, path: Path) -> bool:
    """Whether a file has the optional column `what`, weight or timestamp.

    Raises InputError if the user named a column that is missing.
    """
    name = getattr(columns, what)
    if name not in names and name != getattr(Columns(), what):
        raise missing_column(names, name, path, f"--{what}-column")
    return name in names


def scan(path: Path, option: str) -> pl.LazyFrame:
    """Open a CSV, TSV or Parquet file without reading its rows; values of text files are text. Raises InputError."""
    if not path.exists():
        folder = " or a folder in the NCF paper's format" if option == "--data" else ""
        raise InputError(f"{path} does not exist; {option} takes a file{folder}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} ends in '{path.suffix}'; give a file that ends in {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; it needs a header and rows")
    if suffix == ".parquet":
        return pl.scan_parquet(path, glob=False)
    # Values stay text here: `as_ids` decides for a whole column whether 007 is a number.
    return pl.scan_csv(path, separator=SEPARATORS[suffix], infer_schema=False, glob=False)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an error of Polars about a file into an InputError."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read as {path.suffix[1:].upper()}: {reason}") from error


def read_frame(path: Path, option: str) -> pl.DataFrame:
    """Read a CSV, TSV or Parquet file; the values of text files are text. Raises InputError."""
    with readable(path):
        frame = scan(path, option).collect()
    if frame.is_empty():
        raise no_rows(frame.columns, path)
    return frame


def no_rows(names: Sequence[str], path: Path) -> InputError:
    return InputError(f"{path} has a header ({', '.join(names)}) but no rows")


def id_column(frame: pl.DataFrame, name: str, path: Path, option: str) -> pl.Series:
    """A column of ids: Int64 if all are whole numbers, else String. Raises InputError that names the first bad row."""
    if name not in frame.columns:
        raise missing_column(frame.columns, name, path, option)
    return as_ids(id_text(frame[name], name, path))
