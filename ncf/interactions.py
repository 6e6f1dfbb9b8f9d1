"""Interactions: who did something with what, as indices with the raw ids beside them."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.errors import InputError

log = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

MAX_ID_CHARACTERS = 1024  # `serve` takes no longer ones
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".parquet")


@dataclass(frozen=True)
class Columns:
    """Header names of the four columns; `weight` and `timestamp` are used where the file has them."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    weight: str = "weight"
    timestamp: str = "timestamp"


@dataclass(frozen=True)
class IdIndex:
    """Raw ids and their indices 0..n-1: `ids[index]` is the raw id, String or Int64, unique and sorted."""

    ids: pl.Series

    @classmethod
    def of(cls, raw: pl.Series) -> IdIndex:
        return cls(raw.unique().sort())

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, raw: pl.Series) -> IntArray:
        """Indices [N] of raw ids [N], compared as strings; -1 stands for an id that is not here."""
        table = pl.DataFrame({"id": self.ids.cast(pl.String), "index": np.arange(len(self.ids), dtype=np.int64)})
        wanted = pl.DataFrame({"id": raw.cast(pl.String)})
        found = wanted.join(table, on="id", how="left", maintain_order="left")["index"]
        return found.fill_null(-1).to_numpy(writable=True)

    def decode(self, index: list[int] | IntArray) -> list[int | str]:
        """Raw ids of indices, as they were in the data."""
        return self.ids.gather(index).to_list()


@dataclass(frozen=True)
class Interactions:
    """Distinct (user, item) pairs.

    `user_index`, `item_index` int64 [N]; `weight` float32 [N] or None (all one); `timestamp` [N] or None, ascending
    with time in any unit.
    """

    users: IdIndex
    items: IdIndex
    user_index: IntArray
    item_index: IntArray
    weight: FloatArray | None = None
    timestamp: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for values, size in ((self.user_index, len(self.users)), (self.item_index, len(self.items))):
            if len(values) and not (values.min() >= 0 and values.max() < size):
                raise ValueError(f"indices must lie in 0..{size - 1}")

    def __len__(self) -> int:
        return len(self.user_index)

    @property
    def num_users(self) -> int:
        return len(self.users)

    @property
    def num_items(self) -> int:
        return len(self.items)

    def take(self, rows: npt.NDArray[Any]) -> Interactions:
        """The interactions at `rows` (indices or a mask [N]); ids stay as they are."""
        return Interactions(
            self.users,
            self.items,
            self.user_index[rows],
            self.item_index[rows],
            None if self.weight is None else self.weight[rows],
            None if self.timestamp is None else self.timestamp[rows],
        )

    def popularity(self) -> IntArray:
        """Interactions an item, int64 [num_items]."""
        return np.bincount(self.item_index, minlength=self.num_items).astype(np.int64)


def read_interactions(path: Path, columns: Columns | None = None) -> Interactions:
    """Interactions from a CSV, TSV or Parquet file with a header.

    Raises InputError that names the file, the column, the first bad row and the remedy.
    """
    columns = columns or Columns()
    frame = read_frame(path, "--data")
    table = pl.DataFrame({"user": id_column(frame, columns.user_id, path, "--user-column")}).with_columns(
        id_column(frame, columns.item_id, path, "--item-column").alias("item")
    )
    defaults = Columns()
    if columns.weight in frame.columns:
        table = table.with_columns(_weight_column(frame[columns.weight], path).alias("weight"))
    elif columns.weight != defaults.weight:
        raise _missing_column(frame, columns.weight, path, "--weight-column")
    if columns.timestamp in frame.columns:
        table = table.with_columns(_timestamp_column(frame[columns.timestamp], path).alias("timestamp"))
    elif columns.timestamp != defaults.timestamp:
        raise _missing_column(frame, columns.timestamp, path, "--timestamp-column")
    interactions = from_table(table)
    require_two(interactions, path)
    return interactions


def from_table(table: pl.DataFrame, users: IdIndex | None = None, items: IdIndex | None = None) -> Interactions:
    """Interactions from columns user, item and optional weight, timestamp; of a repeated pair the latest stays."""
    rows = len(table)
    if "timestamp" in table.columns:
        table = table.sort("timestamp", maintain_order=True)
    table = table.unique(["user", "item"], keep="last", maintain_order=True)
    if len(table) < rows:
        log.warning("%d repeated (user, item) pairs: of each the latest is kept", rows - len(table))
    users = users or IdIndex.of(table["user"])
    items = items or IdIndex.of(table["item"])
    return Interactions(
        users,
        items,
        users.encode(table["user"]),
        items.encode(table["item"]),
        table["weight"].to_numpy().astype(np.float32) if "weight" in table.columns else None,
        table["timestamp"].to_numpy() if "timestamp" in table.columns else None,
    )


def read_frame(path: Path, option: str) -> pl.DataFrame:
    """A CSV, TSV or Parquet file with a header; text files with every value as text. Raises InputError."""
    if not path.exists():
        folder = " or a folder in the NCF paper's format" if option == "--data" else ""
        raise InputError(f"{path} does not exist; {option} takes a file{folder}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} ends in '{path.suffix}'; give a file that ends in {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; it needs a header and rows")
    try:
        if suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:  # every value as text: whether 007 is a number is decided for a whole column, later
            frame = pl.read_csv(path, separator=SEPARATORS[suffix], infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read as {suffix[1:].upper()}: {reason}") from error
    if frame.is_empty():
        raise InputError(f"{path} has a header ({', '.join(frame.columns)}) but no rows")
    return frame


def _missing_column(frame: pl.DataFrame, name: str, path: Path, option: str) -> InputError:
    return InputError(f"{path} has no column '{name}'; it has {', '.join(frame.columns)}. Name yours with {option}")


def _bad_row(mask: pl.Series) -> int:
    """Row number of the first True as a reader of the file counts: rows after the header, from 1."""
    return int(mask.arg_true()[0]) + 1


def id_column(frame: pl.DataFrame, name: str, path: Path, option: str) -> pl.Series:
    """A column of ids, Int64 if all are whole numbers, else String. Raises InputError that names the first bad row."""
    if name not in frame.columns:
        raise _missing_column(frame, name, path, option)
    raw = frame[name]
    if not (raw.dtype.is_integer() or raw.dtype.is_float() or raw.dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise InputError(f"{path}: '{name}' is of type {raw.dtype}; ids are text or whole numbers")
    if raw.dtype.is_float():
        if (missing := raw.is_nan().fill_null(True)).any():
            raise InputError(f"{path}: '{name}' is NaN in row {_bad_row(missing)}; every row needs an id")
        whole = (raw == raw.round()) & (raw.abs() < 2**53)  # beyond that a float cannot tell neighbours apart
        if not whole.all():
            raise InputError(f"{path}: '{name}' holds {raw.filter(~whole)[0]}; ids are text or whole numbers")
        raw = raw.cast(pl.Int64)
    text = raw.cast(pl.String)
    missing = text.is_null() | (text.str.strip_chars() == "") | (text.str.to_lowercase() == "nan")
    if missing.fill_null(True).any():
        row = _bad_row(missing.fill_null(True))
        raise InputError(f"{path}: '{name}' is empty or NaN in row {row}; every row needs an id")
    if (long := text.str.len_chars() > MAX_ID_CHARACTERS).any():
        raise InputError(
            f"{path}: '{name}' has an id of more than {MAX_ID_CHARACTERS:,} characters in row {_bad_row(long)}; "
            "shorten it"
        )
    # Whole numbers stay numbers only if writing them gives the same text back: 007 is a name.
    number = text.cast(pl.Int64, strict=False)
    return number if (number.cast(pl.String) == text).fill_null(False).all() else text


def _weight_column(raw: pl.Series, path: Path) -> pl.Series:
    if not (raw.dtype.is_numeric() or raw.dtype == pl.String):
        raise InputError(f"{path}: the weight column is of type {raw.dtype}; weights are numbers above 0")
    weight = raw.cast(pl.Float32, strict=False)  # as it is used: what overflows there is not finite
    bad = weight.is_null() | ~weight.is_finite() | (weight <= 0)
    if bad.fill_null(True).any():
        row = _bad_row(bad.fill_null(True))
        raise InputError(
            f"{path}: weight '{raw[row - 1]}' in row {row} is not a number above 0; "
            "correct it, leave the row out, or choose another column with --weight-column"
        )
    return weight


def _timestamp_column(raw: pl.Series, path: Path) -> pl.Series:
    if raw.dtype in (pl.Date, pl.Datetime):
        time = raw.cast(pl.Datetime("us")).cast(pl.Int64)
    elif raw.dtype == pl.String:
        time = raw.cast(pl.Int64, strict=False)
        if time.null_count():
            time = raw.cast(pl.Float64, strict=False)
        # Only dates whose order of day and month nobody can mistake.
        if time.null_count() and raw.str.contains(r"^\d{4}-\d\d-\d\d").all():
            with suppress(pl.exceptions.PolarsError):  # no date format could be recognised
                time = raw.str.to_datetime(strict=False, time_unit="us").cast(pl.Int64)
    elif raw.dtype.is_integer() or raw.dtype.is_float():
        time = raw
    else:
        raise InputError(f"{path}: the timestamp column is of type {raw.dtype}; give numbers or dates")
    bad = time.is_null() | (time.is_nan() if time.dtype.is_float() else False)
    if bad.any():
        row = _bad_row(bad)
        raise InputError(
            f"{path}: timestamp '{raw[row - 1]}' in row {row} is neither a number nor a date such as 2026-11-21; "
            "correct it, or choose another column with --timestamp-column"
        )
    return time


def require_two(interactions: Interactions, path: Path) -> None:
    """Raises InputError where there is nothing to learn or to recommend; warns of users who have every item."""
    for ids, word in ((interactions.users, "user"), (interactions.items, "item")):
        if len(ids) < 2:
            raise InputError(
                f"{path} holds one {word} only ('{ids.ids[0]}'); collaborative filtering compares {word}s, "
                "so it needs at least two"
            )
    if len(interactions) == interactions.num_users * interactions.num_items:
        raise InputError(
            f"in {path} every user has every item ({interactions.num_users} × {interactions.num_items}); "
            "there is nothing left to recommend and no negative to learn from"
        )
    full = np.flatnonzero(np.bincount(interactions.user_index) == interactions.num_items)
    if len(full):
        log.warning(
            "user '%s'%s has every item: nothing can be recommended there, and no negative is drawn",
            interactions.users.ids[int(full[0])],
            f" and {len(full) - 1} more" if len(full) > 1 else "",
        )
