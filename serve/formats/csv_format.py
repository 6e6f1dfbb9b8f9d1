"""CSV: which columns a table has, the request of one row, and answers as lines. `csv_rows` reads the rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from serve.errors import BadRequest, ServeError, show
from serve.formats.tables import all_columns, cell_text
from serve.recommend.asks import MAX_ID_CHARACTERS, Answer

COLUMNS = ("user_id", "item_id", "k")
EMPTY = "the body is empty; send CSV such as user_id,k and below it u17,10"
HEADER_ONLY = "the body has a header and no rows; send at least one"
TO_QUOTE = re.compile('[",\r\n]')
WHOLE_NUMBER = re.compile(r"\s*(-?[0-9]{1,18})(?:\.0*)?\s*", re.ASCII)


def columns_of(first: Sequence[str]) -> tuple[tuple[str, ...], bool] | None:
    """The columns of a table by its first row, and whether that row is a header; None if the row does not show them.

    Raises BadRequest for a header that names columns which cannot be asked for.
    """
    names = [cell.strip().lower() for cell in first]
    if "user_id" not in names and "item_id" not in names:
        return (COLUMNS[: len(first)], False) if 1 <= len(first) <= 2 else None
    for number, name in enumerate(names):
        if name not in COLUMNS:
            raise BadRequest(f"column {show(first[number])} is unknown; known here: {', '.join(COLUMNS)}")
        if name in names[:number]:
            raise BadRequest(f"column {name} is there twice; send it once")
    if len(names) == len(COLUMNS):
        raise BadRequest("user_id and item_id together ask for scores, which have no k; leave one of the three out")
    return tuple(names), True


def csv_request(line: int, row: Sequence[str], columns: tuple[str, ...]) -> dict[str, Any] | ServeError:
    """The request of one row, or the error that stands in its place."""
    if not row or len(row) != len(columns) or "" in row:
        return row_fault(line, row, columns)
    request: dict[str, Any] = dict(zip(columns, row, strict=True))
    if "k" in request:
        if (k := WHOLE_NUMBER.fullmatch(request["k"])) is None:
            return BadRequest(f"line {line}: k is {show(request['k'])}; it must be a whole number of at least 1")
        request["k"] = int(k[1])
    return request


def pair_fault(line: int, row: Sequence[str] | ServeError, columns: tuple[str, ...]) -> ServeError | None:
    """What is wrong with a row of user_id and item_id, None if nothing is."""
    if isinstance(row, ServeError):
        return row
    if len(row) != 2 or not row[0] or not row[1]:
        return row_fault(line, row, columns)
    if len(row[0]) > MAX_ID_CHARACTERS or len(row[1]) > MAX_ID_CHARACTERS:
        column = columns[len(row[0]) <= MAX_ID_CHARACTERS]
        return BadRequest(f"line {line}: {column} has more than {MAX_ID_CHARACTERS:,} characters; no id has more")
    return None


def row_fault(line: int, row: Sequence[str], columns: tuple[str, ...]) -> BadRequest:
    """The error for a row with an empty cell or another number of cells than columns.

    `columns` is empty as long as no row has shown the columns of the table.
    """
    if not row:
        return BadRequest(f"line {line} is empty; leave it out")
    if not columns:
        return BadRequest(
            f"line {line} has {len(row)} cells and no header; without a header one cell is user_id and two are "
            f"user_id,item_id, other columns need a header of {', '.join(COLUMNS)}"
        )
    if len(row) != len(columns):
        hint = "; an id with a comma needs quotes" if len(row) > len(columns) else ""
        return BadRequest(f"line {line} has {len(row)} cells; the columns are {', '.join(columns)}{hint}")
    return BadRequest(f"line {line}: {columns[row.index('')]} is empty; give it a value or leave the row out")


def encode_csv(answers: list[Answer], many: bool, columns: Sequence[str] = ()) -> bytes:
    """One line an answer: `item_id,score,…` for each recommendation in turn, scores, or one cell `ERROR: …`.

    A recommendation has these `columns`; by default, every field that any recommendation of the answers has.

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
    """A cell, quoted if CSV needs it. (csv.writer does not quote a carriage return, and refuses NUL in Python 3.10.)"""
    text = cell_text(value)
    return '"' + text.replace('"', '""') + '"' if TO_QUOTE.search(text) else text
