"""Tables as requests and answers: what every table shares, and CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import chain
from typing import Any

import orjson

from serve.errors import BadRequest, ServeError, show
from serve.json_format import BOM, Answer, Decoded

COLUMNS = ("user_id", "item_id", "k")
# Far beyond any max_batch_size; it bounds what a body of small rows grows to before a model is asked for its own limit.
MAX_PAIRS = 1_000_000
# Room for a row of three cells of csv's own limit, quotes doubled; a line of millions of commas is not taken apart.
MAX_LINE = 6 * 131_072 + 16
TO_QUOTE = re.compile('[",\r\n]')
UNREADABLE = re.compile(rb"\0|\r(?!\n)")
WHOLE_NUMBER = re.compile(r"\s*-?[0-9]{1,18}\s*", re.ASCII)


def decode_csv(body: bytes, max_requests: int) -> Decoded:
    """Rows of user_id (or item_id) with or without k, each a request; or user_id and item_id, together one request.

    Cells are kept as they are, spaces included, and so is a quote inside an unquoted cell. Raises BadRequest for what
    is no table and, since all pairs are one request, for a bad pair; a bad row of the others fails alone.
    """
    rows = _csv_rows(_csv_text(body))
    line, first = next(rows)
    columns = _header(first)
    if columns is None:
        if not 1 <= len(first) <= 2:
            what = f"has {len(first)} columns and no header" if first else "is empty"
            raise BadRequest(
                f"line 1 {what}; without a header one column is user_id and two are user_id,item_id, "
                f"other columns need a header of {', '.join(COLUMNS)}"
            )
        columns = COLUMNS[: len(first)]
        rows = chain([(line, first)], rows)
    if "user_id" in columns and "item_id" in columns:
        return Decoded([{"pairs": _csv_pairs(rows, columns)}], False)
    requests: list[Any] = []
    for line, row in rows:
        if len(requests) == max_requests:
            lines = body.count(b"\n") + 1
            raise BadRequest(f"the body has {lines:,} lines; at most {max_requests:,} requests are taken at once")
        requests.append(_csv_request(line, row, columns))
    return Decoded(_some(requests), True)


def encode_csv(answers: list[Answer], many: bool) -> bytes:
    """One line an answer: `item_id,score,…` for each recommendation in turn, scores, or one cell `ERROR: …`.

    The scores of a single answer come one a line. A missing score of a pair is `null`, so that no line is empty, and
    so is an answer without recommendations. Numbers have the digits that JSON has: the float32 exactly.
    """
    if not many and "scores" in answers[0]:
        return orjson.dumps(answers[0]["scores"])[1:-1].replace(b",", b"\n") + b"\n"
    columns = all_columns(answers)
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


def _csv_text(body: bytes) -> str:
    """The body as text without what csv would pass over in silence: BOM, NUL bytes, lone carriage returns."""
    body = body.removeprefix(BOM)
    if b"\0" in body or body.count(b"\r") != body.count(b"\r\n"):
        line = body.count(b"\n", 0, next(UNREADABLE.finditer(body)).start()) + 1
        raise BadRequest(f"line {line} has a NUL byte or a lone \\r; send text with lines that end in \\n or \\r\\n")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise BadRequest(f"line {line} is not UTF-8 (byte 0x{body[error.start]:02x}); send the CSV in UTF-8") from None
    text = text.rstrip("\r\n")
    if not text:
        raise BadRequest("the body is empty; send CSV such as user_id,k and below it u17,10")
    return text


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows, each with the number of the line it begins on."""
    line = 1
    reader = csv.reader(_short_lines(text), strict=True)
    try:
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadRequest(f"line {line} cannot be read: {error}; is a quote opened and not closed?") from error


def _short_lines(text: str) -> Iterator[str]:
    for number, line in enumerate(StringIO(text, newline="\n"), 1):
        if len(line) > MAX_LINE:
            raise BadRequest(f"line {number} has {len(line):,} characters; at most {MAX_LINE:,} are taken")
        yield line


def _header(first: list[str]) -> tuple[str, ...] | None:
    """The columns that the first row names, None if it is data."""
    names = [cell.strip().lower() for cell in first]
    if "user_id" not in names and "item_id" not in names:
        return None
    for number, name in enumerate(names):
        if name not in COLUMNS:
            raise BadRequest(f"column {show(first[number])} is unknown; known here: {', '.join(COLUMNS)}")
        if name in names[:number]:
            raise BadRequest(f"column {name} is there twice; send it once")
    if len(names) == len(COLUMNS):
        raise BadRequest("user_id and item_id together ask for scores, which have no k; leave one of the three out")
    return tuple(names)


def _csv_pairs(rows: Iterable[tuple[int, list[str]]], columns: tuple[str, ...]) -> dict[str, list[str]]:
    first: list[str] = []
    second: list[str] = []
    for line, row in rows:
        if len(row) != 2 or not row[0] or not row[1]:
            raise _row_fault(line, row, columns)
        if len(first) == MAX_PAIRS:
            raise BadRequest(f"the body has more than {MAX_PAIRS:,} pairs, which is the most taken at once")
        first.append(row[0])
        second.append(row[1])
    return dict(zip(columns, (_some(first), second), strict=True))


def _csv_request(line: int, row: list[str], columns: tuple[str, ...]) -> dict[str, Any] | ServeError:
    if len(row) != len(columns) or "" in row:
        return _row_fault(line, row, columns)
    request: dict[str, Any] = dict(zip(columns, row, strict=True))
    if "k" in request:
        if not WHOLE_NUMBER.fullmatch(request["k"]):
            return BadRequest(f"line {line}: k is {show(request['k'])}; it must be a whole number of at least 1")
        request["k"] = int(request["k"])
    return request


def _row_fault(line: int, row: list[str], columns: tuple[str, ...]) -> BadRequest:
    if not row:
        return BadRequest(f"line {line} is empty; leave it out")
    if len(row) != len(columns):
        hint = "; an id with a comma needs quotes" if len(row) > len(columns) else ""
        return BadRequest(f"line {line} has {len(row)} cells; the columns are {', '.join(columns)}{hint}")
    return BadRequest(f"line {line}: {columns[row.index('')]} is empty; give it a value or leave the row out")


def _some(rows: list[Any]) -> list[Any]:
    if not rows:
        raise BadRequest("the body has a header and no rows; send at least one")
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
