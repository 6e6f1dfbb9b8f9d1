"""What CSV and NPY share when they write answers as tables."""

from __future__ import annotations

from typing import Any

import orjson

from serve.recommend.asks import Answer


def all_columns(answers: list[Answer]) -> list[str]:
    """item_id, score, and every other field that any recommendation has, so that a field has one place in all rows."""
    columns = {"item_id": None, "score": None}
    for answer in answers:
        for one in answer.get("recommendations", ()):
            if not one.keys() <= columns.keys():
                columns.update(dict.fromkeys(one))
    return list(columns)


def cell_text(value: Any) -> str:
    """A value in one cell: text as it is, null as an empty cell, everything else as JSON writes it."""
    if type(value) is str:
        return value
    text = orjson.dumps(value).decode()
    return "" if text == "null" else text
