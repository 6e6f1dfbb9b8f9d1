"""Text files with separated fields: read by Polars where every line is plain, else row by row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from ncf.errors import InputError, brief
from ncf.files.find import Found, new_file
from ncf.files.form import UNIT, Form, find_form
from ncf.files.reading import Columns, Reading
from ncf.files.row_files import RowFiles
from ncf.files.survey import BLOCK, survey
from ncf.files.table import LINE, Table, readable

HEAD = 2**18  # bytes from which the form is found
ROWS = 2**15  # rows in memory while a file is read row by row
WIDEST = 40  # columns that are counted in a regular expression; its size grows with them
BLANK = " \t\r\x1a"


def open_text(path: Path, found: Found, columns: Columns, reading: Reading, scratch: Path) -> Table | None:
    """The table in a text file in UTF-8; None for one without rows. Raises InputError that names file and line."""
    shown = found.shown
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.strip():
        return None
    if b"\n" not in head and b"\r" in head[:-1]:  # line ends of old Macs
        path, head = _replaced(path, b"\r", b"\n", scratch), head.replace(b"\r", b"\n")
    lines = head.decode(errors="replace").removeprefix("\ufeff").split("\n")
    if len(head) == HEAD and len(lines) > 1:
        lines.pop()
    form, notes = find_form([line.rstrip("\r") for line in lines], found.suffix, reading, columns, shown)
    skipped, sign = form.skipped, form.sign
    while skipped < len(lines) and not lines[skipped].strip():  # Polars finds the columns in the first line
        skipped += 1
    if len(sign.encode()) > 1:
        path, sign = _replaced(path, sign.encode(), UNIT.encode(), scratch), UNIT
    width = len(form.names)
    seen = survey(path, sign, width, skipped, shown)
    if seen.lines <= skipped:
        return None
    quotes = form.quotes and seen.quotes
    dtypes: dict[str, pl.DataType] = {name: pl.String() for name in form.names}
    if (quotes or not seen.even) and (bad := _first_bad(path, sign, width, quotes, skipped, shown)):
        if not (quotes or reading.skip_bad_rows):
            raise _too_long(shown, *bad, form)
        frame, left_out = _row_by_row(path, sign, quotes, form, skipped, reading.skip_bad_rows, scratch, shown)
        frame = frame.with_columns(_null_if_blank(form.names[0]))
        return Table(shown, frame, form.names, {**dtypes, LINE: pl.Int64()}, 0, form.header, notes, left_out)
    frame = pl.scan_csv(
        path, has_header=False, skip_lines=skipped, separator=sign, quote_char='"' if quotes else None,
        schema=dtypes, glob=False, raise_if_empty=False,
        truncate_ragged_lines=True,  # no row is too long; without it Polars takes a short first row as the width of all
    )  # fmt: skip
    if not seen.even:
        frame = frame.with_columns(_null_if_blank(form.names[0]))
    return Table(shown, frame, form.names, dtypes, skipped + 1, form.header, notes)


def _null_if_blank(first: str) -> pl.Expr:
    """The first column, null in lines of spaces, and of the Ctrl-Z that ends some files of Windows."""
    value = pl.col(first)
    return pl.when(value.str.strip_chars(BLANK) != "").then(value).alias(first)


def _replaced(path: Path, old: bytes, new: bytes, scratch: Path) -> Path:
    """A copy of a file with other separators or line ends."""
    target, rest = new_file(scratch, ".plain"), b""
    with path.open("rb") as source, target.open("wb") as file:
        while block := source.read(BLOCK):
            block = (rest + block).replace(old, new)
            cut = len(block) - (len(old) - 1)
            rest = block[cut:]
            file.write(block[:cut])
        file.write(rest)
    return target


def _first_bad(path: Path, sign: str, width: int, quotes: bool, skipped: int, shown: str) -> tuple[int, str] | None:
    """The number and text of the first line that is not plain: too many fields, or quotes that do not pair."""
    line = pl.col("line")
    if quotes:
        s = re.escape(sign)
        one = f'(?:"(?:[^"]|"")*"|[^"{s}]*)'
        times = f"{{0,{width - 1}}}" if width <= WIDEST else "*"
        plain = line.str.contains(f"^{one}(?:{s}{one}){times}\r?$")
        if width > WIDEST:
            plain &= line.str.replace_all('"[^"]*"', "").str.count_matches(sign, literal=True) < width
    else:
        plain = line.str.count_matches(sign, literal=True) < width
    lines = pl.scan_lines(path, glob=False, row_index_name="number", row_index_offset=1)
    with readable(shown):
        bad = lines.filter((pl.col("number") > skipped) & ~plain).head(1).collect(engine="streaming")
    return (int(bad["number"][0]), str(bad["line"][0])) if len(bad) else None


def _too_long(shown: str, line: int, text: str, form: Form) -> InputError:
    found = brief(text.rstrip().replace(UNIT, form.sign))
    return InputError(
        f"{shown}: line {line:,} has more fields than the header has names ({len(form.names)}), separated by "
        f"{form.sign_name}: '{found}'; correct it, or leave such lines out with --skip-bad-rows",
        skip_bad_rows=True,
    )


def _row_by_row(
    path: Path, sign: str, quotes: bool, form: Form, skipped: int, skip: bool, scratch: Path, shown: str
) -> tuple[pl.LazyFrame, dict[str, tuple[int, str]]]:
    """The rows by Python's reader of CSV, which takes quotes amid a field, and fields of several lines.

    Raises InputError for a quote that is never closed, or that swallows rows, and for rows with too many fields.
    """
    inside: list[tuple[int, int, list[str]]] = []  # lines inside a field that have the fields of a row
    width, kept = len(form.names), RowFiles(scratch, form.names, ROWS)
    with _long_fields():
        for first, last, row in _rows_of(path, sign, quotes, skipped, shown):
            if len(row) > width:
                if not skip:
                    raise _too_long(shown, first, sign.join(row), form)
                kept.leave_out("with too many fields", first)
                continue
            if last > first:
                inside += [(first, last, fields) for fields in _rows_inside(row, sign, width)]
            kept.add([*(value or None for value in row), *[None] * (width - len(row)), first])
    kept.write()
    frame = pl.scan_parquet(kept.files, glob=False)
    if swallowed := _known(inside, frame, form.names):
        raise InputError(
            f"{shown}: the quote in line {swallowed[0]:,} is closed in line {swallowed[1]:,} only, and the lines "
            "between look like rows; close it in its line, or double a quote that is part of the text"
        )
    return frame, kept.left_out


def _rows_of(path: Path, sign: str, quotes: bool, skipped: int, shown: str) -> Iterator[tuple[int, int, list[str]]]:
    """First line, last line and fields of each row. Raises InputError for quotes that do not pair."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for _ in range(skipped):
            file.readline()
        reader = csv.reader(file, delimiter=sign, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE, strict=True)
        while True:
            first = reader.line_num + skipped + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                last = reader.line_num + skipped
                if "new-line" in str(error):
                    raise InputError(
                        f"{shown}: line {last:,} has a carriage return (\\r) amid a field without quotes; remove it"
                    ) from None
                what = "is never closed" if "unexpected end" in str(error) else f"ends amid a field in line {last:,}"
                raise InputError(
                    f"{shown}: the quote that begins a field in line {first:,} {what}; close it at the field's end, or "
                    "double a quote that is part of the text"
                ) from None
            if row is None:
                return
            yield first, reader.line_num + skipped, row


@contextmanager
def _long_fields() -> Iterator[None]:
    """A field may be a whole text meanwhile. The limit is the process's: whoever imports ncf keeps the one they had."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _rows_inside(row: Sequence[str], sign: str, width: int) -> list[list[str]]:
    """The lines inside the fields of several lines, as fields, if each line has the fields of a row."""
    lines = [line.rstrip("\r") for value in row for line in value.split("\n")[1:] if line.strip()]
    split = [line.split(sign) for line in lines]
    return split if all(len(fields) == width for fields in split) else []


def _known(
    inside: Sequence[tuple[int, int, list[str]]], frame: pl.LazyFrame, names: Sequence[str]
) -> tuple[int, int] | None:
    """First and last line of the first field with a line inside of which two values stand in their columns elsewhere.

    So rows are told from text that has as many separators: in data to learn from, users and items occur repeatedly.
    """
    if not inside:
        return None
    lines = pl.DataFrame([fields for *_, fields in inside], dict.fromkeys(names, pl.String), orient="row")
    known = np.zeros(len(lines), int)
    for name in names:
        wanted = lines[name].unique().implode()
        found = frame.select(name).filter(pl.col(name).is_in(wanted)).unique().collect(engine="streaming")[name]
        known += lines[name].is_in(found.implode()).to_numpy()
    rows = np.flatnonzero(known >= 2)
    return inside[rows[0]][:2] if len(rows) else None
