"""Rows that are read one by one, kept in Parquet files of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from ncf.files.find import new_file
from ncf.files.table import LINE

Row = Sequence[str | int | None] | Mapping[str, str | int | None]


class RowFiles:
    """Rows of text and their lines, and a count of the rows that are left out; after `rows` of them a file is written.

    `names` may grow while rows are added. `left_out` has for each reason the count, and the line of the first.
    """

    def __init__(self, scratch: Path, names: Iterable[str], rows: int) -> None:
        self.left_out: dict[str, tuple[int, str]] = {}
        self.files: list[Path] = []
        self._scratch, self._names, self._most = scratch, names, rows
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        """A row with its line in the column `LINE`, which is the last."""
        self._rows.append(row)
        if len(self._rows) == self._most:
            self.write()

    def leave_out(self, why: str, line: int) -> None:
        count, place = self.left_out.get(why, (0, f"line {line:,}"))
        self.left_out[why] = (count + 1, place)

    def write(self) -> None:
        """Write the rows that are in memory, also if there are none: a table has a file."""
        self.files.append(new_file(self._scratch, ".parquet"))
        schema = {**dict.fromkeys(self._names, pl.String), LINE: pl.Int64}
        pl.DataFrame(self._rows, schema, orient="row").write_parquet(self.files[-1], compression="lz4")
        self._rows.clear()
