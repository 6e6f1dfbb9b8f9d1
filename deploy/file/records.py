"""The records of a batch transform, filtered and joined with their answers as SageMaker does it.

https://docs.aws.amazon.com/sagemaker/latest/dg/batch-transform-data-processing.html
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import jsonpath

from deploy.errors import UserError, WorldError, brief
from deploy.file.jobs import TransformJob

ANSWER, RECORD = "SageMakerOutput", "SageMakerInput"
MEGABYTE = 1 << 20


class Filter:
    """A JSONPath that selects a part of each record; `$` is all of it. Raises UserError for what is no JSONPath."""

    def __init__(self, field: str, expression: str | None) -> None:
        self._said = f"{field} {expression}"
        self.is_all = expression in (None, "$")
        try:
            self._path = jsonpath.compile("$" if expression is None else expression)
        except jsonpath.JSONPathError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self._said} is no JSONPath: {reason}; it is such as $.features or $[1:]") from error

    def of(self, record: Any) -> Any:
        """The value of a path to one place, else an object or a list of what is found. Raises UserError for nothing."""
        found = [*self._path.finditer(record)]
        if not found:
            raise UserError(f"{self._said} selects nothing of the record {brief(json.dumps(record))}")
        if isinstance(self._path, jsonpath.JSONPath) and self._path.singular_query():
            return found[0].obj
        if isinstance(found[0].parts[-1], str):
            return {match.parts[-1]: match.obj for match in found}
        return [match.obj for match in found]


def bodies(job: TransformJob, content: bytes) -> Iterator[bytes]:
    """Requests of whole lines, none larger than `max_payload_mb`. Raises UserError for a line that is."""
    most = job.max_payload_mb * MEGABYTE or len(content) + 1
    lines = content.splitlines(keepends=True) if job.input.split == "line" else [content]
    body = b""
    for number, line in enumerate(lines, 1):
        if len(line) > most:
            raise UserError(
                f"record {number} has {len(line):,} bytes; raise max_payload_mb, which is {job.max_payload_mb}"
            )
        if body and (job.strategy == "single_record" or len(body) + len(line) > most):
            yield body
            body = b""
        body += line
    if body:
        yield body


def filtered(content_type: str, lines: bytes, wanted: Filter) -> bytes:
    """The part of each record that a filter selects. Raises UserError."""
    if wanted.is_all:
        return lines
    try:
        return _written(content_type, [wanted.of(record) for record in _read(content_type, lines)])
    except ValueError as error:
        raise UserError(f"a record is not {content_type}, so it cannot be filtered: {error}") from error


def joined(content_type: str, lines: bytes, answers: bytes) -> bytes:
    """Each record with its answer: in JSON as SageMakerOutput, in CSV behind it. Raises WorldError."""
    try:
        records, replies = _read(content_type, lines), _read(content_type, answers)
    except ValueError as error:
        raise WorldError(f"a record or its answer is not {content_type}, so they cannot be joined: {error}") from error
    if len(records) != len(replies):
        raise WorldError(
            f"{len(records)} records got {len(replies)} answers, so they cannot be joined; join_input: false"
        )
    pairs = zip(records, replies, strict=True)
    if "json" not in content_type:
        return _written(content_type, [record + reply for record, reply in pairs])
    objects = ((record if isinstance(record, dict) else {RECORD: record}, reply) for record, reply in pairs)
    return _written(content_type, [{**record, ANSWER: reply} for record, reply in objects])


def _read(content_type: str, lines: bytes) -> list[Any]:
    """Raises ValueError."""
    if "json" in content_type:
        return [json.loads(line) for line in lines.splitlines()]
    return [*csv.reader(io.StringIO(lines.decode()))]


def _written(content_type: str, records: list[Any]) -> bytes:
    if "json" in content_type:
        return b"".join(json.dumps(record).encode() + b"\n" for record in records)
    text = io.StringIO()
    rows = (record if isinstance(record, list) else [record] for record in records)
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
