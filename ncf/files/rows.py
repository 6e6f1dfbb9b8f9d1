"""The rows of one file: which are used and why not, and the time and the weight of each."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from ncf.files.columns import Roles
from ncf.files.reading import Reading
from ncf.files.table import Table
from ncf.files.values import SECONDS, IdColumn, as_text, time_of, weight_of

LEAST_WEIGHT = 1e-30  # of a row that is many half-lives old
# Why a row is not used, in the order in which it is asked. The first four are no faults; the others are errors, unless
# such rows are to be skipped.
GOOD, BLANK, HEADER, LIGHT, OTHER, BAD_WEIGHT, BAD_TIME, MIXED_HEADER = range(8)
REASONS = {
    BLANK: "blank lines", HEADER: "repeated headers", LIGHT: "below min_weight", OTHER: "with another event",
    BAD_WEIGHT: "with a bad weight", BAD_TIME: "with a bad time",
}  # fmt: skip


class Left(NamedTuple):
    """Rows that are left out: how many, why, and where the first one stands."""

    rows: int
    why: str
    first: str

    def __str__(self) -> str:
        return f"{self.rows:,} {self.why} (first: {self.first})"


def used_rows(table: Table, roles: Roles, reading: Reading, times: str | None) -> pl.LazyFrame:
    """The rows as they are: user, item, weight, event and timestamp, the number `row`, and `why` it is not used.

    `times` is the way to read the times, None if there are none.
    """
    used = roles.used
    frame = table.frame.select(pl.col(name).alias(what) for what, name in used.items()).with_row_index("row")
    text = all(table.dtypes[name] == pl.String for name in used.values())
    why: Any = pl.when(pl.all_horizontal(pl.col(what).is_null() for what in used)).then(BLANK)
    if text and table.header:
        user, item = (table.header[table.names.index(used[what])] for what in ("user", "item"))
        marked = f"\ufeff{user}"  # Windows marks the begin of each file so
        again = ((pl.col("user") == user) | (pl.col("user") == marked)) & (pl.col("item") == item)
        why = why.when(again).then(HEADER)
        names = pl.lit(pl.Series([*table.header, *table.names]).implode())
        why = why.when(pl.col("user").is_in(names) & pl.col("item").is_in(names)).then(MIXED_HEADER)
    if roles.event:
        known = list(reading.events)
        why = why.when(~pl.col("event").cast(pl.String).is_in(known).fill_null(False)).then(OTHER)
    if roles.weight:
        weight, least = weight_of("weight", table.dtypes[roles.weight]), reading.min_weight
        if least:
            why = why.when((weight.is_finite() & (weight < least)).fill_null(False)).then(LIGHT)
        bad = (weight.is_null() | ~weight.is_finite() | (weight <= 0)).fill_null(True)
        why = why.when(bad).then(BAD_WEIGHT)
    if times:
        time = time_of("timestamp", table.dtypes[str(roles.timestamp)], times)
        why = why.when(time.is_null()).then(BAD_TIME)
    return frame.with_columns(why=why.otherwise(GOOD).cast(pl.Int8))


def time_and_weight(
    table: Table, roles: Roles, reading: Reading, times: str | None, unit: str, latest: float
) -> list[pl.Expr]:
    """The columns time and weight of rows that are used, as far as there are any.

    A weight is the product of the column's, the event's, and .5 to the power of the row's age in half-lives.
    """
    found = []
    time = None
    if times:
        time = time_of("timestamp", table.dtypes[str(roles.timestamp)], times)
        found.append(time.alias("time"))
    if has_weight(roles, reading):
        weight = weight_of("weight", table.dtypes[roles.weight]) if roles.weight else pl.lit(1.0)
        if roles.event:
            events = pl.col("event").cast(pl.String)
            weight = weight * events.replace_strict(reading.events, default=None, return_dtype=pl.Float64)
        if reading.half_life and time is not None:
            days = (latest - time.cast(pl.Float64)) * SECONDS[unit] / 86_400
            weight = weight * pl.lit(0.5).pow(days / reading.half_life_days)
        found.append(weight.clip(LEAST_WEIGHT).cast(pl.Float32).alias("weight"))
    return found


def has_weight(roles: Roles, reading: Reading) -> bool:
    """Whether interactions have weights other than 1."""
    return bool(roles.weight or roles.event or reading.sum_repeats or reading.half_life)


def key_of(table: Table, name: str, column: str, ids: IdColumn) -> pl.Expr:
    """A column of ids in the form in which `join_table` has them."""
    text = as_text(table.dtypes[column], name)
    if ids.ids.dtype != pl.Int64 or ids.has_point_zero:
        return text
    return (pl.col(name) if table.dtypes[column].is_integer() else text).cast(pl.Int64, strict=False)


def join_table(name: str, ids: IdColumn) -> pl.DataFrame:
    """The columns `name`, the id in the form of `key_of`, and `index`."""
    if ids.ids.dtype != pl.Int64 or ids.has_point_zero:
        return ids.index.rename({"value": name})
    return pl.DataFrame({name: ids.ids, "index": pl.int_range(len(ids.ids), dtype=pl.Int32, eager=True)})
