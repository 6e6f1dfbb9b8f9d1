"""Read a table of one file as a whole, such as the metadata of items."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from ncf.errors import InputError
from ncf.files.columns import missing_column
from ncf.files.find import find_files
from ncf.files.open import open_table
from ncf.files.reading import Columns, Reading
from ncf.files.table import readable
from ncf.files.values import as_text, find_ids, require_exact, require_ids


def read_frame(path: Path, option: str) -> pl.DataFrame:
    """Read one file as a whole; the values of text files are text. Raises InputError."""
    with TemporaryDirectory(prefix="ncf-") as folder:
        found = find_files([path], Path(folder), option)
        if len(found) > 1:
            raise InputError(f"{path} is a folder of {len(found)} files; {option} takes one file")
        table = open_table(found[0], Path(folder), Columns(), Reading())
        if table is None:
            raise InputError(f"{path} has no rows; it needs a header and rows")
        with readable(table.shown):
            frame = table.frame.select(table.names).collect()
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def id_column(frame: pl.DataFrame, name: str, path: str, option: str) -> pl.Series:
    """A column of ids [N]: Int64 if all are whole numbers, else String. Raises InputError that names a bad row."""
    if name not in frame.columns:
        raise missing_column(frame.columns, name, path, option)
    require_ids(frame.schema[name], name, path)
    text = frame.select(value=as_text(frame.schema[name], name)).with_row_index("row")
    values = text.with_columns(count=pl.lit(1), part=pl.lit(0))
    require_exact(values, frame.schema[name], name, path)
    found = find_ids(values)
    if len(found.missing):
        first = found.missing.sort("row").row(0, named=True)
        raise InputError(f"{path}: '{name}' {first['why']} in row {first['row'] + 1}; every row needs an id")
    codes = text.join(found.index, on="value", how="left", maintain_order="left")["index"]
    return found.ids.gather(codes)
