"""Filters and joins of a batch transform, by the examples of SageMaker's guide."""

from __future__ import annotations

import pytest

from deploy.errors import UserError, WorldError
from deploy.file.records import Filter, filtered, joined

JSON, CSV = "application/jsonlines", "text/csv"
RECORD = b'{"id": 1, "a": {"b": [10, 20, 30]}}\n'


@pytest.mark.parametrize(
    ("content_type", "path", "lines", "expected"),
    [
        (JSON, None, RECORD, RECORD),
        (JSON, "$", RECORD, RECORD),
        (JSON, "$.a.b", RECORD, b"[10, 20, 30]\n"),
        (JSON, "$.a.b[0]", RECORD, b"10\n"),
        (JSON, "$['id']", RECORD, b"1\n"),
        (JSON, "$['a', 'id']", RECORD, b'{"a": {"b": [10, 20, 30]}, "id": 1}\n'),
        (JSON, "$.a.b[0, 2]", RECORD, b"[10, 30]\n"),
        (JSON, "$.a.b[1:]", RECORD + RECORD, b"[20, 30]\n[20, 30]\n"),
        (CSV, "$[1:]", b'7,"a, b",c\n8,d,e\n', b'"a, b",c\nd,e\n'),
        (CSV, "$[0]", b"7,a\n8,b\n", b"7\n8\n"),
        (CSV, "$[0, 2:]", b"7,a,b,c\n", b"7,b,c\n"),
        (CSV, "$[-1]", b"7,a,b\n", b"b\n"),
    ],
)
def test_a_filter_selects_a_part_of_each_record(
    content_type: str, path: str | None, lines: bytes, expected: bytes
) -> None:
    assert filtered(content_type, lines, Filter("input_filter", path)) == expected


@pytest.mark.parametrize(
    ("content_type", "path", "lines", "words"),
    [
        (JSON, "$.none", RECORD, "input_filter \\$.none selects nothing of the record"),
        (CSV, "$[5]", b"7,a\n", "selects nothing of the record"),
        (JSON, "$.a", b"no JSON\n", "a record is not application/jsonlines, so it cannot be filtered"),
        (CSV, "$[0]", b"\xff\n", "a record is not text/csv"),
    ],
)
def test_a_filter_that_fits_no_record(content_type: str, path: str, lines: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        filtered(content_type, lines, Filter("input_filter", path))


@pytest.mark.parametrize("path", ["$[", "$.a[?", "a b"])
def test_what_is_no_jsonpath(path: str) -> None:
    with pytest.raises(UserError, match="is no JSONPath"):
        Filter("output_filter", path)


@pytest.mark.parametrize(
    ("content_type", "lines", "answers", "expected"),
    [
        (JSON, b'{"id": 1}\n', b'{"x": 2}\n', b'{"id": 1, "SageMakerOutput": {"x": 2}}\n'),
        (JSON, b"[1, 2]\n", b"3\n", b'{"SageMakerInput": [1, 2], "SageMakerOutput": 3}\n'),
        (CSV, b"7,a\n8,b\n", b"0.5\n0.25\n", b"7,a,0.5\n8,b,0.25\n"),
    ],
)
def test_a_join_puts_each_answer_beside_its_record(
    content_type: str, lines: bytes, answers: bytes, expected: bytes
) -> None:
    assert joined(content_type, lines, answers) == expected


def test_what_cannot_be_joined() -> None:
    with pytest.raises(WorldError, match=r"2 records got 1 answers, so they cannot be joined; join_input: false"):
        joined(CSV, b"7\n8\n", b"0.5\n")
    with pytest.raises(WorldError, match="a record or its answer is not application/jsonlines"):
        joined(JSON, b"{}\n", b"no JSON\n")
