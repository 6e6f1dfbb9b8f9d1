"""Read text files that have no header, line by line; their errors name the line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ncf.errors import InputError
from ncf.files.values import MAX_ID_CHARACTERS

BYTES_AT_ONCE = 2**24
END_OF_FILE = "\x1a"  # Ctrl-Z, which DOS and its descendants write at the end of a text
SHOWN_CHARACTERS = 60


def read_lines(path: Path) -> Iterator[pl.DataFrame]:
    """The lines of a UTF-8 file that are not blank, in order, as columns `line` (from 1) and `text`, 16 MB at a time.

    Line breaks may be those of Windows. Raises InputError if the file cannot be read, or is no UTF-8.
    """
    number, begun = 1, b""
    try:
        with path.open("rb") as file:
            while block := file.read(BYTES_AT_ONCE):
                whole, line_break, begun = (begun + block).rpartition(b"\n")
                if line_break:
                    yield _lines(whole, number, path)
                    number += whole.count(b"\n") + 1
            yield _lines(begun.rstrip(END_OF_FILE.encode()), number, path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _lines(part: bytes, number: int, path: Path) -> pl.DataFrame:
    try:
        text = part.decode()
    except UnicodeDecodeError as error:
        line = number + part.count(b"\n", 0, error.start)
        raise InputError(f"{path}, line {line} is no UTF-8 text; write the file as UTF-8") from error
    lines = pl.DataFrame({"text": text.removeprefix("\ufeff").split("\n")}).with_row_index("line", offset=number)
    kept = pl.col("text").str.strip_chars()
    return lines.with_columns(pl.col("text").str.strip_chars_end(" \r")).filter((kept != "") & (kept != END_OF_FILE))


def require(good: pl.Series, lines: pl.DataFrame, path: Path, problem: str, rows: pl.Series | None = None) -> None:
    """Raises InputError that shows the first line with a value that is not good [N], its problem and the remedy.

    `rows` [N] are the rows in `lines` of the values, if a line has several.
    """
    if good.all():
        return
    bad = int((~good).arg_true()[0])
    row = bad if rows is None else int(rows[bad])
    line, text = lines["line"][row], lines["text"][row]
    shown = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
    raise InputError(f"{path}, line {line}: {problem}; the line is {shown!r}")


def require_ids(
    ids: pl.Series, lines: pl.DataFrame, path: Path, name: str, remedy: str, rows: pl.Series | None = None
) -> None:
    """Raises InputError that shows the first line without an id, or with an id that is too long."""
    require(ids.str.len_bytes() > 0, lines, path, f"the {name} is empty; {remedy}", rows)
    long = f"the {name} has more than {MAX_ID_CHARACTERS:,} characters; shorten it"
    require(ids.str.len_chars() <= MAX_ID_CHARACTERS, lines, path, long, rows)
