"""A file as a lazy table of text or typed columns, whose rows have line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl

from ncf.errors import InputError, brief

LINE = "\0line"  # a column with the line of each row, where it does not follow from the row's number


@dataclass(frozen=True)
class Table:
    """A file that is opened but not read.

    `first_line` is the line of the first row; 0 for files that have no lines, whose rows are numbered from 1.
    `header` are the fields of its first line if those are names. `left_out` counts rows that are not in the frame by
    reason, with the line of the first.
    """

    shown: str
    frame: pl.LazyFrame
    names: tuple[str, ...]
    dtypes: dict[str, pl.DataType]
    first_line: int = 0
    header: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)

    def place(self, row: int) -> str:
        """Where row number `row`, counted from 0, stands in the file."""
        if LINE in self.dtypes:
            with readable(self.shown):
                return f"line {self.frame.select(LINE).slice(row, 1).collect().item():,}"
        return f"line {row + self.first_line:,}" if self.first_line else f"row {row + 1:,}"


@contextmanager
def readable(shown: str) -> Iterator[None]:
    """Turn an error of Polars about a file into an InputError."""
    try:
        yield
    except pl.exceptions.PanicException as error:  # of a file that is damaged in its middle
        raise InputError(f"{shown} cannot be read, for it is damaged: {brief(str(error).splitlines()[0])}") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{shown} cannot be read: {brief(str(error).splitlines()[0])}") from error
