"""JSON Lines: an object on each line; nested values are columns whose names are joined by dots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from ncf.errors import InputError, brief
from ncf.files.row_files import RowFiles
from ncf.files.table import LINE, Table

MOST_NAMES = 1000  # columns; a file in which values are names has no end of them
ROWS = 2**15


def open_json_lines(path: Path, shown: str, scratch: Path, skip: bool) -> Table:
    """The table, written as Parquet into `scratch`; every value is text. Raises InputError that names the line."""
    names: dict[str, None] = {}
    kept = RowFiles(scratch, names, ROWS)
    for number, line in _lines(path):
        try:
            value = orjson.loads(line)
            if not isinstance(value, dict):
                raise ValueError("it is no object")
        except ValueError as error:
            if not skip:
                text = brief(line.decode(errors="replace").strip())
                raise InputError(
                    f"{shown}: line {number:,} is not a JSON object ({error}): '{text}'; correct it, or leave "
                    "such lines out with --skip-bad-rows",
                    skip_bad_rows=True,
                ) from None
            kept.leave_out("no JSON object", number)
            continue
        flat = dict(_flat(value, ""))
        if len(names) < MOST_NAMES:
            names.update(dict.fromkeys(flat))
        kept.add({**flat, LINE: number})
    kept.write()
    dtypes: dict[str, pl.DataType] = {**{name: pl.String() for name in names}, LINE: pl.Int64()}
    frame = pl.concat([pl.scan_parquet(file, glob=False) for file in kept.files], how="diagonal")
    return Table(shown, frame.select(list(dtypes)), tuple(names), dtypes, left_out=kept.left_out)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip(b" \t\r\n\x1a\xef\xbb\xbf"):
                yield number, line.removeprefix(b"\xef\xbb\xbf")


def _flat(value: dict[str, Any], before: str) -> Iterator[tuple[str, str | None]]:
    for name, inside in value.items():
        if isinstance(inside, dict):
            yield from _flat(inside, f"{before}{name}.")
        elif isinstance(inside, str) or inside is None:
            yield before + name, inside
        else:
            yield before + name, orjson.dumps(inside).decode()
