"""The rules for ids, weights and times in a column; they are the same for a file that is read and one streamed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ncf.errors import InputError

MAX_ID_CHARACTERS = 1024  # `serve` refuses longer ids

# The ways to read a column of times, the simplest first.
READINGS = ("whole numbers", "numbers", "dates")
# Only dates in which day and month cannot be confused.
DATE = r"^\d{4}-\d\d-\d\d"
DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M:%S%.f%#z")


def missing_column(names: Sequence[str], name: str, path: Path, option: str) -> InputError:
    return InputError(f"{path} has no column '{name}'; it has {', '.join(names)}. Name yours with {option}")


def numbered(frame: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """One column of a file as `value`, and the number `row` of each row: the first row after the header is 1."""
    return frame.select(value=pl.col(name)).with_row_index("row", offset=1)


def id_text(raw: pl.Series, name: str, path: Path, rows: pl.Series | None = None) -> pl.Series:
    """Check ids [N] and return them as text; `rows` [N] are their row numbers if those are not 1..N.

    Raises InputError that names the first bad row.
    """

    def row_of(bad: pl.Series) -> int:
        first = int(bad.arg_true()[0])
        return first + 1 if rows is None else int(rows[first])

    if not (raw.dtype.is_integer() or raw.dtype.is_float() or raw.dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise InputError(f"{path}: '{name}' is of type {raw.dtype}; ids are text or whole numbers")
    if raw.dtype.is_float():
        if (missing := raw.is_nan().fill_null(True)).any():
            raise InputError(f"{path}: '{name}' is NaN in row {row_of(missing)}; every row needs an id")
        whole = (raw == raw.round()) & (raw.abs() < 2**53)  # a larger float stands for several whole numbers
        if not whole.all():
            raise InputError(f"{path}: '{name}' holds {raw.filter(~whole)[0]}; ids are text or whole numbers")
        raw = raw.cast(pl.Int64)
    text = raw.cast(pl.String)
    missing = (text.is_null() | (text.str.strip_chars() == "") | (text.str.to_lowercase() == "nan")).fill_null(True)
    if missing.any():
        raise InputError(f"{path}: '{name}' is empty or NaN in row {row_of(missing)}; every row needs an id")
    if (long := text.str.len_chars() > MAX_ID_CHARACTERS).any():
        raise InputError(
            f"{path}: '{name}' has an id of more than {MAX_ID_CHARACTERS:,} characters in row {row_of(long)}; "
            "shorten it"
        )
    return text


def as_ids(text: pl.Series) -> pl.Series:
    """Checked ids in their final type: Int64 if all are whole numbers, else String."""
    # An id is a whole number only if the number is written the same way: 007 is text.
    number = text.cast(pl.Int64, strict=False)
    return number if (number.cast(pl.String) == text).fill_null(False).all() else text


def id_key(name: str, raw: pl.DataType, kept: pl.DataType) -> pl.Expr:
    """A column of checked ids of type `raw`, in the type that `as_ids` chose."""
    value = pl.col(name)
    if raw.is_integer() or raw.is_float():
        value = value.cast(pl.Int64) if kept == pl.Int64 or raw.is_float() else value
        return value if kept == pl.Int64 else value.cast(pl.String)
    return value.cast(pl.String).cast(kept)


def weight_of(name: str) -> pl.Expr:
    # Training uses float32: a weight that overflows becomes infinite and is refused.
    return pl.col(name).cast(pl.Float32, strict=False)


def check_weights(frame: pl.LazyFrame, name: str, path: Path) -> None:
    """Raises InputError that names the first row whose weight is not a number above 0."""
    dtype = frame.collect_schema()[name]
    if not (dtype.is_numeric() or dtype == pl.String):
        raise InputError(f"{path}: the weight column is of type {dtype}; weights are numbers above 0")
    weight = weight_of("value")
    bad = (weight.is_null() | ~weight.is_finite() | (weight <= 0)).fill_null(True)
    first = numbered(frame, name).filter(bad).head(1).collect(engine="streaming")
    if len(first):
        raise InputError(
            f"{path}: weight '{first['value'][0]}' in row {first['row'][0]} is not a number above 0; "
            "correct it, leave the row out, or choose another column with --weight-column"
        )


def time_of(name: str, dtype: pl.DataType, reading: str) -> pl.Expr:
    """A column of times as Int64 (dates: microseconds) or Float64; null if a value cannot be read in this way."""
    value = pl.col(name)
    if reading == "whole numbers":
        return value.cast(pl.Int64, strict=False)
    if reading == "numbers":
        return value.cast(pl.Float64, strict=False).fill_nan(None)
    if dtype != pl.String:
        return value.cast(pl.Datetime("us")).cast(pl.Int64)
    text = pl.when(value.str.contains(DATE)).then(value.str.replace("T", " ", literal=True))
    readings = (text.str.to_datetime(form, strict=False, time_unit="us", cache=False) for form in DATE_FORMATS)
    return pl.coalesce(reading.cast(pl.Int64) for reading in readings)


def unreadable_times(frame: pl.LazyFrame, name: str, path: Path) -> dict[str, int]:
    """For each way of reading that the type of a column allows, the number of values that cannot be read so.

    Text that begins like a date counts as a date: reading dates is slow, and `check_times` reads the rest. Raises
    InputError if the type allows no way of reading.
    """
    dtype = frame.collect_schema()[name]
    readings: tuple[str, ...] = READINGS
    if dtype in (pl.Date, pl.Datetime):
        readings = READINGS[2:]
    elif dtype.is_integer():
        readings = READINGS[:2]
    elif dtype.is_float():
        readings = READINGS[1:2]
    elif dtype != pl.String:
        raise InputError(f"{path}: the timestamp column is of type {dtype}; give numbers or dates")
    unreadable = {reading: time_of(name, dtype, reading).is_null() for reading in readings}
    if dtype == pl.String:
        unreadable["dates"] = ~pl.col(name).str.contains(DATE).fill_null(False)
    return frame.select(**{k: v.sum() for k, v in unreadable.items()}).collect(engine="streaming").row(0, named=True)


def reading_of_times(unreadable: Sequence[dict[str, int]], paths: Sequence[Path]) -> str:
    """The way to read the times of all parts: with the fewest unreadable values, and of equal ways the simplest.

    Raises InputError if no way fits all parts.
    """
    common = [reading for reading in READINGS if all(reading in counts for counts in unreadable)]
    if not common:
        odd = next(number for number, counts in enumerate(unreadable) if not set(counts) & set(unreadable[0]))
        kinds = [next(iter(counts)) for counts in (unreadable[0], unreadable[odd])]
        raise InputError(f"the timestamps are {kinds[0]} in {paths[0]} and {kinds[1]} in {paths[odd]}; make them alike")
    return min(common, key=lambda reading: sum(counts[reading] for counts in unreadable))


def check_times(frame: pl.LazyFrame, name: str, path: Path, reading: str) -> None:
    """Raises InputError that names the first row whose time cannot be read."""
    bad = time_of("value", frame.collect_schema()[name], reading).is_null()
    first = numbered(frame, name).filter(bad).head(1).collect(engine="streaming")
    if len(first):
        raise InputError(
            f"{path}: timestamp '{first['value'][0]}' in row {first['row'][0]} is neither a number nor a date such as "
            "2026-11-21; correct it, or choose another column with --timestamp-column"
        )
