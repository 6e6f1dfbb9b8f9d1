"""The rules for the values of a column: ids, weights and times."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ncf.errors import InputError, brief

MAX_ID_CHARACTERS = 1024  # `serve` refuses longer ids
# Words that programs write for a missing value. Among whole numbers they are missing; among text they may be names.
MISSING_WORDS = ("nan", "na", "n/a", "<na>", "#n/a", "null", "none", "nat", "\\n", "undefined", "nil")
POINT_ZERO = r"^(-?(?:0|[1-9][0-9]*))\.0+$"  # 1.0, as pandas writes a whole number as soon as one is missing
LARGEST_FLOAT32 = 2**24  # above it a float32 stands for several whole numbers; above 2**53 a float64 does

# The ways to read a column of times, the simplest first.
READINGS = ("whole numbers", "numbers", "dates")
# Only dates in which day and month cannot be confused.
DATE = r"^\d{4}-\d\d-\d\d"
DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M:%S%.f%#z")
# What a number of each size is, if it is a time since 1970, in the years 1985 to 2128.
UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
SECONDS = {unit: 1 / size for unit, size in UNITS.items()}
FIRST_SECOND, LAST_SECOND = 5e8, 5e9


@dataclass(frozen=True)
class IdColumn:
    """The ids of a column: `ids` unique and sorted, Int64 if all are whole numbers, else String.

    `index` has a row for each value as it is written: `value` text, `index` Int32. `missing` are the other values:
    columns value, row, count, part, why.
    """

    ids: pl.Series
    index: pl.DataFrame
    counts: pl.Series
    missing: pl.DataFrame
    words: int
    has_point_zero: bool


def require_ids(dtype: pl.DataType, name: str, where: str) -> None:
    """Raises InputError for a type that ids cannot have."""
    text = dtype in (pl.String, pl.Binary, pl.Categorical, pl.Enum)
    if not (text or dtype.is_integer() or dtype.is_float() or isinstance(dtype, pl.Decimal)):
        raise InputError(f"{where}: '{name}' is of type {dtype}; ids are text or whole numbers")


def as_text(dtype: pl.DataType, name: str) -> pl.Expr:
    """A column of ids as text: of whole floats and decimals without the point."""
    value = pl.col(name)
    if dtype.is_float():
        whole = (value == value.round()) & (value.abs() < 2**53)
        return pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
    text = value.cast(pl.String)
    return text.str.replace(r"\.0+$", "") if isinstance(dtype, pl.Decimal) else text


def find_ids(values: pl.DataFrame) -> IdColumn:
    """The ids among the distinct values of a column: columns value (text), row, count, part."""
    text = pl.col("value")
    values = values.with_columns(
        empty=(text.is_null() | (text.str.strip_chars() == "")).fill_null(True),
        word=text.str.strip_chars().str.to_lowercase().is_in(MISSING_WORDS).fill_null(False),
        short=text.str.strip_chars().str.replace(POINT_ZERO, "$1"),
    )
    number = pl.col("short").cast(pl.Int64, strict=False)
    values = values.with_columns(number=pl.when(number.cast(pl.String) == pl.col("short")).then(number))
    plain = values.filter(~pl.col("empty") & ~pl.col("word"))
    whole = len(plain) > 0 and plain["number"].null_count() == 0
    why = (
        pl.when("empty").then(pl.lit("is empty"))
        .when(pl.lit(whole) & pl.col("word")).then(pl.lit("stands for a missing value"))
        .when(text.str.len_chars() > MAX_ID_CHARACTERS).then(pl.lit(f"has more than {MAX_ID_CHARACTERS:,} characters"))
    )  # fmt: skip
    values = values.with_columns(why=why)
    kept = values.filter(pl.col("why").is_null()).with_columns(id=pl.col("number") if whole else text)
    counted = kept.group_by("id").agg(pl.col("count").sum()).sort("id")
    counted = counted.with_columns(index=pl.int_range(len(counted), dtype=pl.Int32))
    index = kept.select("value", "id").unique("value").join(counted.select("id", "index"), on="id")
    return IdColumn(
        counted["id"],
        index.select("value", "index"),
        counted["count"],
        values.filter(pl.col("why").is_not_null()).select("value", "row", "count", "part", "why"),
        0 if whole else int(kept.filter("word")["count"].sum()),
        whole and (kept["value"] != kept["short"]).any(),
    )


def ids_of(text: pl.Series) -> pl.Series:
    """Ids [N] in their final type: Int64 if all are whole numbers, however they are written, else String."""
    short = text.str.replace(POINT_ZERO, "$1")
    number = short.cast(pl.Int64, strict=False)
    return number if (number.cast(pl.String) == short).fill_null(False).all() else text


def require_exact(values: pl.DataFrame, dtype: pl.DataType, name: str, where: str) -> None:
    """Raises InputError for ids in floats that stand for several whole numbers, or for none."""
    if not dtype.is_float():
        return
    number = values["value"].cast(pl.Float64, strict=False).drop_nans().drop_nulls()
    if len(odd := number.filter((number != number.round()) | number.is_infinite())):
        raise InputError(f"{where}: '{name}' has {odd[0]:g}; ids are text or whole numbers")
    limit = LARGEST_FLOAT32 if dtype == pl.Float32 else 2**53
    if len(large := number.filter(number.abs() >= limit)):
        raise InputError(
            f"{where}: '{name}' is {str(dtype).lower()} and has {large[0]:g}, and above {limit:,} such numbers merge "
            "several ids into one; write the ids as whole numbers or text"
        )


def require_weights(dtype: pl.DataType, name: str, where: str) -> None:
    """Raises InputError for a type that weights cannot have."""
    if not (dtype.is_numeric() or dtype == pl.String):
        raise InputError(f"{where}: '{name}' is of type {dtype}; weights are numbers above 0")


def weight_of(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of weights; training uses float32, where a weight that overflows is infinite, and is refused."""
    return _stripped(name, dtype).cast(pl.Float32, strict=False)


def _stripped(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column; text without the spaces around it."""
    return pl.col(name).str.strip_chars() if dtype == pl.String else pl.col(name)


def time_of(name: str, dtype: pl.DataType, reading: str) -> pl.Expr:
    """A column of times as Int64 (dates: microseconds) or Float64; null if a value cannot be read in this way."""
    value = _stripped(name, dtype)
    if reading == "whole numbers":
        return value.cast(pl.Int64, strict=False)
    if reading == "numbers":
        return value.cast(pl.Float64, strict=False).fill_nan(None)
    if dtype != pl.String:
        return value.cast(pl.Datetime("us")).cast(pl.Int64)
    text = value.str.replace(r" ?UTC$", "").str.replace("T", " ", literal=True)
    text = pl.when(value.str.contains(DATE)).then(text)
    readings = (text.str.to_datetime(form, strict=False, time_unit="us", cache=False) for form in DATE_FORMATS)
    return pl.coalesce(reading.cast(pl.Int64) for reading in readings)


def time_facts(name: str, dtype: pl.DataType, where: str) -> dict[str, pl.Expr]:
    """What is asked of a column of times before it is read: for each possible reading the number of values that cannot
    be read so, and for each unit how many numbers it fits and the row of the first.

    Text that begins like a date counts as a date, because reading dates is slow. Raises InputError if the type allows
    no way of reading.
    """
    readings: tuple[str, ...] = READINGS
    if dtype in (pl.Date, pl.Datetime):
        readings = READINGS[2:]
    elif dtype.is_integer():
        readings = READINGS[:2]
    elif dtype.is_float() or isinstance(dtype, pl.Decimal):
        readings = READINGS[1:2]
    elif dtype != pl.String:
        raise InputError(f"{where}: the timestamp column is of type {dtype}; give numbers or dates")
    facts = {reading: time_of(name, dtype, reading).is_null().sum() for reading in readings}
    if dtype == pl.String:
        facts["dates"] = (~_stripped(name, dtype).str.contains(DATE).fill_null(False)).sum()
    if readings != READINGS[2:]:
        number = _stripped(name, dtype).cast(pl.Float64, strict=False)
        for unit, size in UNITS.items():
            fits = number.is_between(FIRST_SECOND * size, LAST_SECOND * size, closed="left").fill_null(False)
            facts[unit] = fits.sum()
            facts[f"first {unit}"] = pl.col("row").filter(fits).min()
    return facts


def reading_of_times(facts: Sequence[Mapping[str, int]], shown: Sequence[str]) -> str:
    """The way to read the times of all parts: with the fewest unreadable values, and of equal ways the simplest.

    Raises InputError if no way fits all parts.
    """
    common = [reading for reading in READINGS if all(reading in each for each in facts)]
    if not common:
        ways = [[reading for reading in READINGS if reading in each] for each in facts]
        odd = next(number for number, way in enumerate(ways) if not set(way) & set(ways[0]))
        kinds = [ways[0][0], ways[odd][0]]
        raise InputError(f"the timestamps are {kinds[0]} in {shown[0]} and {kinds[1]} in {shown[odd]}; make them alike")
    return min(common, key=lambda reading: sum(each[reading] for each in facts))


def unit_of_times(facts: Sequence[Mapping[str, int]], reading: str, places: Mapping[str, str]) -> str:
    """The unit of the times, or "" if it is not known. Raises InputError if one column has several.

    `places` says where the first row of each unit stands.
    """
    if reading == "dates":
        return "microseconds"
    counts = {unit: sum(each.get(unit, 0) for each in facts) for unit in UNITS}
    present = [unit for unit in UNITS if counts[unit]]
    if len(present) > 1:
        few, many = sorted(present, key=counts.__getitem__)[:: len(present) - 1]
        raise InputError(
            f"the timestamps are in {many} and in {few} ({counts[few]:,} rows, the first: {places[few]})"
            ", so their order is unknown; write all in one unit"
        )
    return present[0] if present else ""


def bad_time(value: object, name: str, place: str, reading: str) -> InputError:
    text = "" if value is None else str(value).strip()
    numbers = reading != "dates"
    if not text:
        found = "is empty; every row needs a time"
    elif numbers and re.match(DATE, text):
        found = f"is '{brief(text)}', a date, and other rows have numbers"
    elif not numbers and re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", text):
        found = f"is '{brief(text)}', a number, and other rows have dates"
    else:
        found = f"is '{brief(text)}', which is neither a number nor a date such as 2026-11-21"
    return InputError(
        f"{place}: '{name}' {found}: correct it, leave such rows out with --skip-bad-rows, or name another column with "
        "--timestamp-column",
        skip_bad_rows=True,
    )
