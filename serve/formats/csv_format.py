"""Tables as requests and answers: what every table shares, and CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import chain
from typing import Any

import orjson

from serve.errors import BadRequest, ServeError, show
from serve.formats.json_format import BOM, Answer, Decoded, too_long

COLUMNS = ("user_id", "item_id", "k")
EMPTY = "the body is empty; send CSV such as user_id,k and below it u17,10"
HEADER_ONLY = "the body has a header and no rows; send at least one"
# Far beyond any max_batch_size; it bounds what a body of small rows grows to before a model is asked for its own limit.
MAX_PAIRS = 1_000_000
# Room for a row of three cells of csv's own limit, quotes doubled; a line of millions of commas is not taken apart.
MAX_LINE = 6 * 131_072 + 16
# A row that goes on over lines is waited for; ids have 1,024 characters, so one that can be answered is far shorter.
MAX_OPEN = 65_536
TO_QUOTE = re.compile('[",\r\n]')
UNREADABLE = re.compile(rb"\0|\r(?!\n)")
WHOLE_NUMBER = re.compile(r"\s*-?[0-9]{1,18}\s*", re.ASCII)

# The number of the line it begins on, and its cells, or why it cannot be read.
Row = tuple[int, "list[str] | ServeError"]


def decode_csv(body: bytes, max_requests: int) -> Decoded:
    """Rows of user_id (or item_id) with or without k, each a request; or user_id and item_id, together one request.

    Cells are kept as they are, spaces included, and so is a quote inside an unquoted cell. Raises BadRequest for what
    is no table and, since all pairs are one request, for a bad pair; a bad row of the others fails alone.
    """
    text = _csv_text(body.removeprefix(BOM)).rstrip("\r\n")
    if not text:
        raise BadRequest(EMPTY)
    rows = _csv_rows(text)
    line, first = next(rows)
    columns, is_header = columns_of(first)
    if not is_header:
        rows = chain([(line, first)], rows)
    if "user_id" in columns and "item_id" in columns:
        return Decoded([{"pairs": _csv_pairs(rows, columns)}], False)
    requests: list[Any] = []
    for line, row in rows:
        if len(requests) == max_requests:
            lines = body.count(b"\n") + 1
            raise BadRequest(f"the body has {lines:,} lines; at most {max_requests:,} requests are taken at once")
        requests.append(csv_request(line, row, columns))
    return Decoded(_some(requests), True)


def encode_csv(answers: list[Answer], many: bool, columns: Sequence[str] = ()) -> bytes:
    """One line an answer: `item_id,score,…` for each recommendation in turn, scores, or one cell `ERROR: …`.

    The cells of a recommendation are these `columns`, without any all that one of the answers has.

    The scores of a single answer come one a line. A missing score of a pair is `null`, so that no line is empty, and
    so is an answer without recommendations. Numbers have the digits that JSON has: the float32 exactly.
    """
    if not many and "scores" in answers[0]:
        return orjson.dumps(answers[0]["scores"])[1:-1].replace(b",", b"\n") + b"\n"
    columns = columns or all_columns(answers)
    lines = []
    for answer in answers:
        if "error" in answer:
            cells = [_cell("ERROR: " + " ".join(str(answer["error"]["message"]).split()))]
        elif "scores" in answer:
            cells = [_cell(score) or "null" for score in answer["scores"]]
        else:
            cells = [_cell(one.get(column)) for one in answer["recommendations"] for column in columns] or ["null"]
        lines.append(",".join(cells) + "\n")
    return "".join(lines).encode()


def _cell(value: Any) -> str:
    """A quoted cell where it must be; csv.writer leaves a carriage return bare, and before Python 3.11 refuses NUL."""
    text = cell_text(value)
    return '"' + text.replace('"', '""') + '"' if TO_QUOTE.search(text) else text


def _csv_text(body: bytes, line: int = 1) -> str:
    """Whole lines as text, the first of them line number `line`.

    Raises BadRequest for what csv would pass over in silence, NUL bytes and lone carriage returns, and for what is not
    UTF-8.
    """
    if b"\0" in body or body.count(b"\r") != body.count(b"\r\n"):
        line += body.count(b"\n", 0, next(UNREADABLE.finditer(body)).start())
        raise BadRequest(f"line {line} has a NUL byte or a lone \\r; send text with lines that end in \\n or \\r\\n")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        line += body.count(b"\n", 0, error.start)
        raise BadRequest(f"line {line} is not UTF-8 (byte 0x{body[error.start]:02x}); send the CSV in UTF-8") from None


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows, each with the number of the line it begins on."""
    line = 1
    reader = csv.reader(_short_lines(text), strict=True)
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise _unreadable(line, error) from error


class RowReader:
    """Rows of a table that arrives in blocks of whole lines; of what cannot be read each line is a row of its own."""

    def __init__(self) -> None:
        self.line = 1  # the number of the next row's first line
        self.strict = True  # nothing is answered yet: what cannot be read is raised, not returned
        self._open: list[str | ServeError] = []  # lines of a row whose quote may be closed by what is still to come

    def read(self, block: bytes | None, last: bool) -> list[Row]:
        """The rows that this block completes; None stands for a line that is too long.

        Raises BadRequest for what cannot be read while `strict`, and afterwards returns it.
        """
        lines = self._open
        if block != b"":
            lines = lines + self._lines(block, self.line + len(lines))
        rows, used = self._read(lines, last)
        self._open = lines[used:]
        self.line += used
        return rows

    def _lines(self, block: bytes | None, number: int) -> list[str | ServeError]:
        try:
            if block is None:
                raise too_long(number, MAX_LINE)
            return list(StringIO(_csv_text(block, number), newline="\n"))
        except BadRequest as error:
            if self.strict:
                raise
            if block is None:
                return [error]
        lines: list[str | ServeError] = []
        for at, line in enumerate(block.removesuffix(b"\n").split(b"\n"), number):
            try:
                lines.append(_csv_text(line + b"\n", at))
            except BadRequest as error:
                lines.append(error)
        return lines

    def _read(self, lines: Sequence[str | ServeError], last: bool) -> tuple[list[Row], int]:
        """Rows, and how many of the lines they take: the others are a row that is still open."""
        rows: list[Row] = []
        at = 0
        while at < len(lines):
            start = at
            reader = csv.reader(_readable(lines, at, len(lines)), strict=True)
            try:
                for row in reader:
                    rows.append((self.line + at, row))
                    at = start + reader.line_num
            except csv.Error as error:
                stop = start + reader.line_num
                if stop == len(lines) and not last and sum(map(len, _readable(lines, at, stop))) <= MAX_OPEN:
                    break
                if self.strict:
                    raise _unreadable(self.line + at, error) from error
                # One quote may have taken many good lines with it: each is read again alone, and only this once.
                rows += [_alone(line, number) for number, line in enumerate(_readable(lines, at, stop), self.line + at)]
                at = stop
            if at < len(lines) and isinstance(fault := lines[at], ServeError):
                rows.append((self.line + at, fault))
                at += 1
        return rows, at


def _readable(lines: Sequence[str | ServeError], start: int, stop: int) -> Iterator[str]:
    """Lines up to the first that cannot be read."""
    for at in range(start, stop):
        line = lines[at]
        if isinstance(line, ServeError):
            return
        yield line


def _alone(line: str, number: int) -> Row:
    try:
        return number, next(csv.reader((line,), strict=True))
    except csv.Error as error:
        return number, _unreadable(number, error)


def _unreadable(line: int, error: csv.Error) -> BadRequest:
    return BadRequest(f"line {line} cannot be read: {error}; is a quote opened and not closed?")


def _short_lines(text: str) -> Iterator[str]:
    for number, line in enumerate(StringIO(text, newline="\n"), 1):
        if len(line) > MAX_LINE:
            raise BadRequest(f"line {number} has {len(line):,} characters; at most {MAX_LINE:,} are taken")
        yield line


def columns_of(first: list[str]) -> tuple[tuple[str, ...], bool]:
    """The columns of a table by its first row, and whether that row is a header.

    Raises BadRequest for columns that ask for nothing.
    """
    names = [cell.strip().lower() for cell in first]
    if "user_id" not in names and "item_id" not in names:
        if not 1 <= len(first) <= 2:
            what = f"has {len(first)} columns and no header" if first else "is empty"
            raise BadRequest(
                f"line 1 {what}; without a header one column is user_id and two are user_id,item_id, "
                f"other columns need a header of {', '.join(COLUMNS)}"
            )
        return COLUMNS[: len(first)], False
    for number, name in enumerate(names):
        if name not in COLUMNS:
            raise BadRequest(f"column {show(first[number])} is unknown; known here: {', '.join(COLUMNS)}")
        if name in names[:number]:
            raise BadRequest(f"column {name} is there twice; send it once")
    if len(names) == len(COLUMNS):
        raise BadRequest("user_id and item_id together ask for scores, which have no k; leave one of the three out")
    return tuple(names), True


def _csv_pairs(rows: Iterable[tuple[int, list[str]]], columns: tuple[str, ...]) -> dict[str, list[str]]:
    first: list[str] = []
    second: list[str] = []
    for line, row in rows:
        if len(row) != 2 or not row[0] or not row[1]:
            raise row_fault(line, row, columns)
        if len(first) == MAX_PAIRS:
            raise BadRequest(f"the body has more than {MAX_PAIRS:,} pairs, which is the most taken at once")
        first.append(row[0])
        second.append(row[1])
    return dict(zip(columns, (_some(first), second), strict=True))


def csv_request(line: int, row: list[str], columns: tuple[str, ...]) -> dict[str, Any] | ServeError:
    """The request of one row, or the error that stands in its place."""
    if len(row) != len(columns) or "" in row:
        return row_fault(line, row, columns)
    request: dict[str, Any] = dict(zip(columns, row, strict=True))
    if "k" in request:
        if not WHOLE_NUMBER.fullmatch(request["k"]):
            return BadRequest(f"line {line}: k is {show(request['k'])}; it must be a whole number of at least 1")
        request["k"] = int(request["k"])
    return request


def row_fault(line: int, row: list[str], columns: tuple[str, ...]) -> BadRequest:
    """What is wrong with a row that has other cells than columns, or an empty cell."""
    if not row:
        return BadRequest(f"line {line} is empty; leave it out")
    if len(row) != len(columns):
        hint = "; an id with a comma needs quotes" if len(row) > len(columns) else ""
        return BadRequest(f"line {line} has {len(row)} cells; the columns are {', '.join(columns)}{hint}")
    return BadRequest(f"line {line}: {columns[row.index('')]} is empty; give it a value or leave the row out")


def _some(rows: list[Any]) -> list[Any]:
    if not rows:
        raise BadRequest(HEADER_ONLY)
    return rows


def all_columns(answers: list[Answer]) -> list[str]:
    """item_id, score, and whatever else any recommendation has: each then has the same place in every one."""
    columns = {"item_id": None, "score": None}
    for answer in answers:
        for one in answer.get("recommendations", ()):
            if not one.keys() <= columns.keys():
                columns.update(dict.fromkeys(one))
    return list(columns)


def cell_text(value: Any) -> str:
    """A value in one cell: text as it is, nothing as nothing, all else as JSON has it."""
    if type(value) is str:
        return value
    text = orjson.dumps(value).decode()
    return "" if text == "null" else text
