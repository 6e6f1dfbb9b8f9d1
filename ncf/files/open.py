"""Any file as a table: text, JSON Lines, Parquet or Arrow, compressed or not."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ncf.errors import InputError
from ncf.files.find import Found
from ncf.files.json_lines import open_json_lines
from ncf.files.reading import Columns, Reading
from ncf.files.table import Table, readable
from ncf.files.text import open_text
from ncf.files.unpack import unpack

KINDS = {"json": "JSON Lines", "parquet": "Parquet", "arrow": "Arrow"}


def require_text(shown: str, kind: str, reading: Reading) -> None:
    """Raises InputError for options that say how a text file is written, which cannot apply to another file."""
    given = {"--separator": reading.separator, "--no-header and --columns": reading.names}
    if kind != "JSON Lines":
        given["--encoding"] = reading.encoding
    if options := [option for option, value in given.items() if value]:
        raise InputError(f"{shown} is {kind}, which says itself how it is written; leave out {', '.join(options)}")


def open_table(found: Found, scratch: Path, columns: Columns, reading: Reading) -> Table | None:
    """The table in a file; None for one without rows. Raises InputError that names file, line and remedy."""
    if found.path.stat().st_size == 0:
        return None
    path, kind, notes = unpack(found, scratch, reading.encoding)
    if kind != "text":
        require_text(found.shown, KINDS[kind], reading)
    if kind == "text":
        table = open_text(path, found, columns, reading, scratch)
    elif kind == "json":
        table = open_json_lines(path, found.shown, scratch, reading.skip_bad_rows)
    else:
        with readable(found.shown):
            frame = pl.scan_parquet(path, glob=False) if kind == "parquet" else pl.scan_ipc(path, glob=False)
            schema = frame.collect_schema()
            rows = frame.select(pl.len()).collect().item()
        table = Table(found.shown, frame, tuple(schema.names()), dict(schema)) if rows else None
    if table is None:
        return None
    table.notes.extend(notes)
    if not found.keys:
        return table
    if clash := sorted(set(found.keys) & set(table.names)):
        raise InputError(f"{found.shown} has a column '{clash[0]}', and its folder names one as well; rename one")
    frame = table.frame.with_columns(pl.lit(value, pl.String).alias(key) for key, value in found.keys.items())
    return Table(
        table.shown, frame, (*table.names, *found.keys), {**table.dtypes, **dict.fromkeys(found.keys, pl.String())},
        table.first_line, table.header, table.notes, table.left_out,
    )  # fmt: skip
