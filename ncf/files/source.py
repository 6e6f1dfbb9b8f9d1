"""Interactions in files of any size and form: their ids, and their rows as indices of those ids, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.errors import InputError, brief
from ncf.files.columns import OPTIONS, Roles, common_roles, require_same_columns
from ncf.files.find import find_files
from ncf.files.open import open_table
from ncf.files.reading import Columns, Reading
from ncf.files.rows import (
    BAD_TIME,
    BAD_WEIGHT,
    BLANK,
    GOOD,
    MIXED_HEADER,
    REASONS,
    Left,
    has_weight,
    join_table,
    key_of,
    time_and_weight,
    used_rows,
)
from ncf.files.table import Table, readable
from ncf.files.values import (
    UNITS,
    IdColumn,
    as_text,
    bad_time,
    find_ids,
    reading_of_times,
    require_exact,
    require_ids,
    require_weights,
    time_facts,
    time_of,
    unit_of_times,
)

BATCH = 2**18  # rows


@dataclass
class Source:
    """The files of the data, which column means what, and how their times are read (None without timestamps).

    `unit` is that of the times, empty if it is unknown; `latest` is the latest time, for weights that age. `sizes` are
    the rows of each file, `num_rows` those of all, with those that could not be parsed. `left_out` and `notes` are what
    the user is told; they are complete when the ids are known.
    """

    tables: list[Table]
    roles: Roles
    reading: Reading
    notes: list[str] = field(default_factory=list)
    left_out: list[Left] = field(default_factory=list)
    times: str | None = None
    unit: str = ""
    latest: float = 0
    sizes: list[int] = field(default_factory=list)
    num_rows: int = 0

    @property
    def shown(self) -> str:
        """The files in a message."""
        more = f" and {len(self.tables) - 1} more" if len(self.tables) > 1 else ""
        return self.tables[0].shown + more

    @property
    def has_weight(self) -> bool:
        return has_weight(self.roles, self.reading)

    @property
    def unused(self) -> list[str]:
        """The columns of the files that are not used."""
        used = set(self.roles.used.values())
        return [
            name for name in dict.fromkeys(name for table in self.tables for name in table.names) if name not in used
        ]

    @property
    def record(self) -> np.dtype[Any]:
        """The type of a row of `batches`: indices, number of the row in the data, time and weight if there are any."""
        fields: list[tuple[str, Any]] = [("user", np.int32), ("item", np.int32), ("row", np.int64)]
        if self.times:
            fields.append(("time", np.float64 if self.times == "numbers" else np.int64))
        if self.has_weight:
            fields.append(("weight", np.float32))
        return np.dtype(fields)

    @cached_property
    def users(self) -> IdColumn:
        return self._ids("user", self._values[0])

    @cached_property
    def items(self) -> IdColumn:
        return self._ids("item", self._values[1])

    @cached_property
    def num_good(self) -> list[int]:
        """The number of rows of each file that are used, if their ids are."""
        return [int(values["count"].sum()) for values in self._values[1]]

    def batches(self) -> Iterator[npt.NDArray[Any]]:
        """All rows that are used, in any order, in batches of type `record`."""
        index = {"user": self.users, "item": self.items}
        missing = [sum(int(column.missing.filter(part=part)["count"].sum()) for column in index.values())
                   for part in range(len(self.tables))]  # fmt: skip
        before = 0
        for part, table in enumerate(self.tables):
            frame = used_rows(table, self.roles, self.reading, self.times).filter(pl.col("why") == GOOD)
            more = time_and_weight(table, self.roles, self.reading, self.times, self.unit, self.latest)
            values = [pl.col("row").cast(pl.Int64) + before, *more]
            keys = [key_of(table, name, self.roles.used[name], ids).alias(name) for name, ids in index.items()]
            frame = frame.select(*values, *keys)
            for name, ids in index.items():
                frame = (
                    frame.join(join_table(name, ids).lazy(), on=name, how="inner").drop(name).rename({"index": name})
                )
            done = 0
            with readable(table.shown):
                for batch in frame.collect_batches(chunk_size=BATCH, maintain_order=False, engine="streaming"):
                    records = np.empty(len(batch), self.record)
                    for name in batch.columns:
                        records[name] = batch[name].to_numpy()
                    done += len(batch)
                    yield records
            if not self.num_good[part] - missing[part] <= done <= self.num_good[part]:
                raise InputError(f"{table.shown} changed while it was read; try again")
            before += self.sizes[part]

    @cached_property
    def _values(self) -> tuple[list[pl.DataFrame], list[pl.DataFrame]]:
        """For users and for items, and for each file, the distinct values of the ids: value, row, count, part.

        Rows that are not used are counted into `left_out`. Raises InputError for a row that must not be skipped.
        """
        users, items = list[pl.DataFrame](), list[pl.DataFrame]()
        why = []
        for part, table in enumerate(self.tables):
            rows = used_rows(table, self.roles, self.reading, self.times)
            found = []
            for name in ("user", "item"):
                text = as_text(table.dtypes[self.roles.used[name]], name)
                grouped = rows.with_columns(value=text).group_by("why", "value")
                found.append(grouped.agg(pl.col("row").min(), pl.len().cast(pl.Int64).alias("count")))
            with readable(table.shown):
                of_user, of_item = pl.collect_all(found, engine="streaming")
            for name, values, every in (("user", of_user, users), ("item", of_item, items)):
                good = values.filter(pl.col("why") == GOOD).drop("why").with_columns(part=pl.lit(part))
                column = self.roles.used[name]
                require_exact(good, table.dtypes[column], column, table.shown)
                every.append(good)
            why.append(of_user.group_by("why").agg(pl.col("count").sum(), pl.col("row").min()))
            self.sizes.append(int(of_user["count"].sum()))
            self.num_rows += self.sizes[-1]
        self._leave_out(why)
        return users, items

    def _leave_out(self, why: Sequence[pl.DataFrame]) -> None:
        for number in range(BLANK, MIXED_HEADER + 1):
            found = [(part, each.filter(why=number)) for part, each in enumerate(why)]
            found = [(part, each) for part, each in found if len(each)]
            if not found:
                continue
            part, first = found[0]
            row = int(first["row"][0])
            if number == MIXED_HEADER or (number in (BAD_WEIGHT, BAD_TIME) and not self.reading.skip_bad_rows):
                raise self._bad_row(number, self.tables[part], row)
            count = sum(int(each["count"].sum()) for _, each in found)
            place = f"{self.tables[part].shown}, {self.tables[part].place(row)}"
            self.left_out.append(Left(count, REASONS[number], place))
        for table in self.tables:
            self.left_out += [Left(count, f"{reason}", f"{table.shown}, {place}")
                              for reason, (count, place) in table.left_out.items()]  # fmt: skip
            self.num_rows += sum(count for count, _ in table.left_out.values())

    def _bad_row(self, why: int, table: Table, row: int) -> InputError:
        place = f"{table.shown}, {table.place(row)}"
        what = {BAD_WEIGHT: "event" if self.roles.event else "weight", BAD_TIME: "timestamp"}.get(why, "user")
        name = self.roles.used[what]
        with readable(table.shown):
            value = table.frame.select(name).slice(row, 1).collect().item()
        if why == BAD_TIME:
            return bad_time(value, name, place, str(self.times))
        if why == MIXED_HEADER:
            return InputError(
                f"{place}: this line is a header with the columns in another order; give the two tables as two files"
            )
        found = f"is '{brief(value)}', which is" if value is not None else "is empty, and so"
        return InputError(
            f"{place}: '{name}' {found} not a number above 0; correct it, leave such rows out with --skip-bad-rows, or "
            "name another column with --weight-column",
            skip_bad_rows=True,
        )

    def _ids(self, name: str, values: Sequence[pl.DataFrame]) -> IdColumn:
        found = find_ids(pl.concat(values))
        column = self.roles.used[name]
        for reason, rows in found.missing.sort("part", "row").group_by("why", maintain_order=True):
            table, row = self.tables[rows["part"][0]], int(rows["row"][0])
            place = f"{table.shown}, {table.place(row)}"
            if not self.reading.skip_bad_rows:
                value = rows["value"][0]
                shown = f" ('{brief(value)}')" if value and value.strip() else ""
                raise InputError(
                    f"{place}: '{column}' {reason[0]}{shown}; every row needs an id: correct it, or leave such rows "
                    "out with --skip-bad-rows",
                    skip_bad_rows=True,
                )
            self.left_out.append(Left(int(rows["count"].sum()), f"whose {column} {reason[0]}", place))
        if found.words:
            self.notes.append(
                f"{found.words:,} rows have a {column} such as 'None' or 'NA', which is taken as a name, for other "
                "ids are text"
            )
        if not len(found.ids):
            raise InputError(f"{self.tables[0].shown} has no row with {OPTIONS[name][2:].removesuffix('-column')} ids")
        return found


def open_source(data: Sequence[Path], columns: Columns, reading: Reading, scratch: Path) -> Source:
    """Open files; `scratch` holds what is unpacked, as long as the source is used. Raises InputError."""
    tables, notes = [], list[str]()
    for found in find_files(data, scratch):
        table = open_table(found, scratch, columns, reading)
        if table is None:
            notes.append(f"{found.shown} has no rows and is left out")
        else:
            tables.append(table)
            notes += table.notes
    if not tables:
        given = notes[0].removesuffix(" and is left out") if len(notes) == 1 else "no file has rows"
        raise InputError(f"{given}; give a file with a header and rows")
    return source_of(tables, notes, columns, reading, all(path.is_dir() for path in data))


def source_of(
    tables: list[Table], notes: list[str], columns: Columns, reading: Reading, in_folders: bool = False
) -> Source:
    """The tables as one source; those found in folders must have the same columns. Raises InputError."""
    roles, more = common_roles(tables, columns, reading)
    if in_folders:
        require_same_columns(tables)
    for table in tables:
        for name in (roles.user, roles.item):
            require_ids(table.dtypes[name], name, table.shown)
        if roles.weight:
            require_weights(table.dtypes[roles.weight], roles.weight, table.shown)
    source = Source(tables, roles, reading, notes + more)
    if roles.timestamp:
        _read_times(source, roles.timestamp)
    return source


def _read_times(source: Source, name: str) -> None:
    """Find out how the times are to be read, their unit, and the latest."""
    facts, places = [], dict[str, str]()
    for table in source.tables:
        frame = table.frame.select(pl.col(name).alias("timestamp")).with_row_index("row")
        with readable(table.shown):
            asked = time_facts("timestamp", table.dtypes[name], table.shown)
            facts.append(frame.select(**asked).collect(engine="streaming").row(0, named=True))
        for unit in UNITS:
            if facts[-1].get(unit) and unit not in places:
                places[unit] = f"{table.shown}, {table.place(facts[-1][f'first {unit}'])}"
    source.times = reading_of_times(facts, [table.shown for table in source.tables])
    source.unit = unit_of_times(facts, source.times, places)
    for table in source.tables:
        if table.dtypes[name] == pl.Float32:
            source.notes.append(
                f"{table.shown}: {name} is float32, in which times that are near to each other are equal"
            )
    if source.reading.half_life:
        if not source.unit:
            raise InputError(
                f"half_life needs times in seconds, milliseconds, microseconds or nanoseconds since 1970, or dates; "
                f"'{name}' has other numbers"
            )
        for table in source.tables:
            time = time_of(name, table.dtypes[name], source.times)
            with readable(table.shown):
                latest = table.frame.select(time.max()).collect(engine="streaming").item()
            source.latest = max(source.latest, float(latest or 0))
