"""Rows of a CSV table that arrives in blocks of whole lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from io import StringIO

from serve.errors import BadRequest, ServeError
from serve.formats.json_format import too_long

# Room for a row of three cells of the csv module's own limit with every quote doubled. A longer line is not split.
MAX_LINE = 6 * 131_072 + 16
# A quoted cell may go on over several lines, up to so many characters: an id has at most 1,024.
MAX_OPEN = 65_536
UNREADABLE = re.compile(rb"\0|\r(?!\n)")

# The number of the line that the row begins on, and its cells, or why it cannot be read.
Row = tuple[int, "list[str] | ServeError"]


class RowReader:
    """Reads rows block by block; each line that cannot be read is a row of its own, with the error in place of cells.

    Cells are kept as they are, spaces included, and so is a quote inside an unquoted cell.
    """

    def __init__(self) -> None:
        self.line = 1  # the number of the next row's first line
        self._open: list[str | ServeError] = []  # lines of a row whose quote the next block may close

    def read(self, block: bytes | None, last: bool) -> list[Row]:
        """The rows that this block completes; the block None stands for a line that is too long."""
        lines = self._open
        if block != b"":
            lines = lines + _lines(block, self.line + len(lines))
        rows, used = self._read(lines, last)
        self._open = lines[used:]
        self.line += used
        return rows

    def _read(self, lines: Sequence[str | ServeError], last: bool) -> tuple[list[Row], int]:
        """Rows, and how many of the lines they take; the lines that are left belong to a row that is still open."""
        rows: list[Row] = []
        at = 0
        while at < len(lines):
            start = at
            reader = csv.reader(_readable(lines, at, len(lines)), strict=True)
            try:
                for row in reader:
                    rows.append((self.line + at, row))
                    at = start + reader.line_num
            except csv.Error:
                stop = start + reader.line_num
                if stop == len(lines) and not last and sum(map(len, _readable(lines, at, stop))) <= MAX_OPEN:
                    break
                # A quote that is never closed takes the good lines after it into its cell. So each of these lines is
                # read again alone, and only once, which keeps the cost linear.
                rows += [_alone(line, number) for number, line in enumerate(_readable(lines, at, stop), self.line + at)]
                at = stop
            if at < len(lines) and isinstance(fault := lines[at], ServeError):
                rows.append((self.line + at, fault))
                at += 1
        return rows, at


def _lines(block: bytes | None, number: int) -> list[str | ServeError]:
    """The lines of a block, the first of them line `number`; the error in the place of a line that is no text."""
    if block is None:
        return [too_long(number, MAX_LINE)]
    try:
        return list(StringIO(_text(block, number), newline="\n"))
    except BadRequest:
        lines: list[str | ServeError] = []
        for at, line in enumerate(block.removesuffix(b"\n").split(b"\n"), number):
            try:
                lines.append(_text(line + b"\n", at))
            except BadRequest as error:
                lines.append(error.with_traceback(None))
        return lines


def _text(body: bytes, line: int) -> str:
    """Whole lines as text, the first of them line number `line`.

    Raises BadRequest for NUL bytes and lone carriage returns, which the csv module accepts silently, and for text
    that is not UTF-8.
    """
    if b"\0" in body or body.count(b"\r") != body.count(b"\r\n"):
        line += body.count(b"\n", 0, next(UNREADABLE.finditer(body)).start())
        raise BadRequest(f"line {line} has a NUL byte or a lone \\r; send text with lines that end in \\n or \\r\\n")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        line += body.count(b"\n", 0, error.start)
        raise BadRequest(f"line {line} is not UTF-8 (byte 0x{body[error.start]:02x}); send the CSV in UTF-8") from None


def _readable(lines: Sequence[str | ServeError], start: int, stop: int) -> Iterator[str]:
    """Lines up to the first that cannot be read."""
    for at in range(start, stop):
        line = lines[at]
        if isinstance(line, ServeError):
            return
        yield line


def _alone(line: str, number: int) -> Row:
    """One line as a row."""
    try:
        return number, next(csv.reader((line,), strict=True))
    except csv.Error as error:
        return number, BadRequest(f"line {number} cannot be read: {error}; is a quote opened and not closed?")
