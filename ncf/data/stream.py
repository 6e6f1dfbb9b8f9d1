"""Interactions in files of any size: their ids, and their rows as indices of those ids, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.interactions import Columns, IdIndex
from ncf.data.tables import SUFFIXES, has_column, no_rows, readable, scan
from ncf.data.values import (
    as_ids,
    check_times,
    check_weights,
    id_key,
    id_text,
    missing_column,
    numbered,
    reading_of_times,
    time_of,
    unreadable_times,
    weight_of,
)
from ncf.errors import InputError

BATCH = 2**18  # rows


@dataclass(frozen=True)
class Part:
    """One file of the data, opened but not read."""

    path: Path
    frame: pl.LazyFrame
    schema: pl.Schema


@dataclass(frozen=True)
class Source:
    """The files of the data, whether they have weights, and how their times are read (None without timestamps)."""

    parts: list[Part]
    columns: Columns
    has_weight: bool
    reading: str | None

    @property
    def names(self) -> dict[str, str | None]:
        """The names of the four columns; None for a column that the data do not have."""
        has = {"weight": self.has_weight, "timestamp": self.reading is not None}
        return {what: name if has.get(what, True) else None for what, name in asdict(self.columns).items()}

    @property
    def record(self) -> np.dtype[Any]:
        """The type of a row of `batches`: indices, number of the row in the data, time and weight if there are any."""
        fields: list[tuple[str, Any]] = [("user", np.int32), ("item", np.int32), ("row", np.int64)]
        if self.reading:
            fields.append(("time", np.float64 if self.reading == "numbers" else np.int64))
        if self.has_weight:
            fields.append(("weight", np.float32))
        return np.dtype(fields)

    def ids(self, name: str, option: str) -> tuple[IdIndex, npt.NDArray[np.int64], list[int]]:
        """The ids of a column, the number of rows of each id and of each part. Raises InputError."""
        found, rows = [], []
        for part in self.parts:
            if name not in part.schema:
                raise missing_column(part.schema.names(), name, part.path, option)
            with readable(part.path):
                seen = (
                    numbered(part.frame, name)
                    .group_by("value")
                    .agg(pl.col("row").min(), pl.len().cast(pl.Int64).alias("count"))
                    .sort("row")
                    .collect(engine="streaming")
                )
            if seen.is_empty():
                raise no_rows(part.schema.names(), part.path)
            text = id_text(seen["value"], name, part.path, seen["row"])
            found.append(pl.DataFrame({"id": text, "count": seen["count"]}))
            rows.append(int(seen["count"].sum()))
        table = pl.concat(found).group_by("id").agg(pl.col("count").sum())
        table = table.with_columns(as_ids(table["id"])).sort("id")
        return IdIndex(table["id"]), table["count"].to_numpy(), rows

    def batches(self, users: IdIndex, items: IdIndex, rows: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
        """All rows in any order, in batches of type `record`; `rows` is the number of rows of each part."""
        names = {"user": self.columns.user_id, "item": self.columns.item_id}
        before = 0
        for part, size in zip(self.parts, rows, strict=True):
            values = []
            for name, index in (("user", users), ("item", items)):
                values.append(id_key(names[name], part.schema[names[name]], index.ids.dtype).alias(name))
            if self.reading:
                time = self.columns.timestamp
                values.append(time_of(time, part.schema[time], self.reading).alias("time"))
            if self.has_weight:
                values.append(weight_of(self.columns.weight).alias("weight"))
            frame = part.frame.select(values).with_row_index("row", offset=before)
            for name, index in (("user", users), ("item", items)):
                numbers = pl.int_range(len(index), dtype=pl.Int32, eager=True)
                table = pl.LazyFrame({name: index.ids, "index": numbers})
                frame = frame.join(table, on=name, how="inner").drop(name).rename({"index": name})
            done = 0
            with readable(part.path):
                for batch in frame.collect_batches(chunk_size=BATCH, maintain_order=False, engine="streaming"):
                    if self.reading and batch["time"].null_count():
                        check_times(part.frame, self.columns.timestamp, part.path, self.reading)
                    records = np.empty(len(batch), self.record)
                    for name in batch.columns:
                        records[name] = batch[name].to_numpy()
                    done += len(batch)
                    yield records
            if done != size:
                raise InputError(f"{part.path} changed while it was read; try again")
            before += size


def open_source(data: Sequence[Path], columns: Columns) -> Source:
    """Open files and check their weights and times. Raises InputError that names file, column and row."""
    parts = []
    for path in find_files(data):
        frame = scan(path, "--data")
        with readable(path):
            parts.append(Part(path, frame, frame.collect_schema()))
    has = {what: _all_or_none(parts, columns, what) for what in ("weight", "timestamp")}
    if has["weight"]:
        for part in parts:
            with readable(part.path):
                check_weights(part.frame, columns.weight, part.path)
    reading = None
    if has["timestamp"]:
        unreadable = []
        for part in parts:
            with readable(part.path):
                unreadable.append(unreadable_times(part.frame, columns.timestamp, part.path))
        reading = reading_of_times(unreadable, [part.path for part in parts])
        for part, counts in zip(parts, unreadable, strict=True):
            if counts[reading]:
                check_times(part.frame, columns.timestamp, part.path, reading)
    return Source(parts, columns, has["weight"], reading)


def find_files(data: Sequence[Path]) -> list[Path]:
    """The files to read: the given files, and the files in the given folders in order of name. Raises InputError."""
    files = []
    for path in data:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith((".", "_")))
        if not inside:
            raise InputError(f"{path} holds no file that ends in {', '.join(SUFFIXES)}")
        files += inside
    if twice := [path for number, path in enumerate(files) if path in files[:number]]:
        raise InputError(f"{twice[0]} is given twice; name each file once")
    return files


def _all_or_none(parts: Sequence[Part], columns: Columns, what: str) -> bool:
    has = [has_column(part.schema.names(), columns, what, part.path) for part in parts]
    if any(has) and not all(has):
        name = getattr(columns, what)
        raise InputError(
            f"{parts[has.index(False)].path} has no column '{name}' and {parts[has.index(True)].path} has; "
            "give it to all files or to none"
        )
    return all(has)
