from __future__ import annotations

import contextlib
import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import BadRequest
from serve.formats.csv_format import encode_csv
from serve.formats.registry import CSV
from tests.support.lines import requests_of

pytestmark = pytest.mark.core

BOM = b"\xef\xbb\xbf"
anything = settings(deadline=None, database=None)
# What CSV can carry: no NUL, no carriage return without a line feed, and of line ends only \n is kept apart from \r\n.
cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8)
scores = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)


def decode(text: str) -> list[Any]:
    return requests_of(CSV, text.encode())


def refusal(body: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        requests_of(CSV, body)
    return checked(caught.value)


def fault(body: bytes) -> str:
    """The only error among the lines."""
    [error] = [each for each in requests_of(CSV, body) if isinstance(each, BadRequest)]
    return checked(error)


def checked(error: BadRequest) -> str:
    message = str(error)
    assert len(message) < 250
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user_id,item_id\nu1,a\nu2,b\n", [("u1", "a"), ("u2", "b")]),
        ("u1,a\r\nu2,b\r\n", [("u1", "a"), ("u2", "b")]),
        (" Item_ID , USER_ID\na,u1", [("u1", "a")]),
        ("u1,a\n\n\r\n", [("u1", "a")]),
        ('"u,1","a ""b"""\n', [("u,1", 'a "b"')]),
        ('"u\n1",5" pizza\n', [("u\n1", '5" pizza')]),
        (" u1, a \n", [(" u1", " a ")]),  # ids are compared as text, spaces included
        ("k,k\n", [("k", "k")]),
        ("user_id\n7\n007\n", [{"user_id": "7"}, {"user_id": "007"}]),
        ("u17", [{"user_id": "u17"}]),
        ("user_id,k\nu1,10\nu2, -3 \n", [{"user_id": "u1", "k": 10}, {"user_id": "u2", "k": -3}]),
        ("k,item_id\n5,a\n", [{"item_id": "a", "k": 5}]),
        ("item_id\na\n", [{"item_id": "a"}]),
    ],
)
def test_tables_are_read(text: str, expected: list[Any]) -> None:
    assert decode(text) == expected
    assert requests_of(CSV, BOM + text.encode()) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty; send CSV such as"),
        (BOM + b"\r\n\n", "the body is empty"),
        (b"user_id,item_id\n", "a header and no rows"),
        (b"user_id,k", "a header and no rows"),
        (b"user_id,foo\nu,1", "column 'foo' is unknown; known here: user_id, item_id, k"),
        (b"item_id,k,\na,1,", "column '' is unknown"),
        (b"user_id,user_id\nu,u", "column user_id is there twice"),
        (b"user_id,item_id,K\nu,i,1", "scores, which have no k"),
    ],
)
def test_a_header_that_asks_for_nothing_is_refused(body: bytes, message: str) -> None:
    assert message in refusal(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"a,b,c\n", "line 1 has 3 cells and no header"),
        (b"\nu1,a", "line 1 is empty"),
        (b"u1,a\nu2\n", "line 2 has 1 cells; the columns are user_id, item_id"),
        (b"u1,a\nu2,b,c\n", "line 2 has 3 cells; the columns are user_id, item_id; an id with a comma needs quotes"),
        (b"user_id,item_id\nu1,a\n\nu2,b\n", "line 3 is empty; leave it out"),
        (b"u1,a\nu2,\n", "line 2: item_id is empty"),
        (b'user_id,item_id\n"",a\n', "line 2: user_id is empty"),
        (b'u1,a\n"u\n2",b\nu3,\n', "line 4: item_id is empty"),  # a line is what an editor counts
        (b'u1,a\n"u2,b\nu3,c\n', "line 2 cannot be read: unexpected end of data; is a quote opened and not closed?"),
        (b'u1,a\n"u2"x,b\n', "line 2 cannot be read"),
        (b'u1,a\nu2,"b\0"\n', "line 2 has a NUL byte or a lone \\r"),
        (b"u1,a\ru2,b\r", "line 1 has a NUL byte or a lone \\r"),
        (b'u1,a\r\n"u\r2",b', "line 2 has a NUL byte or a lone \\r"),
        (b"u1,a\nu2,\xe9\n", "line 2 is not UTF-8 (byte 0xe9); send the CSV in UTF-8"),
    ],
)
def test_a_bad_line_costs_itself_alone(body: bytes, message: str) -> None:
    assert message in fault(body)


def test_a_bad_row_fails_alone() -> None:
    requests = decode("user_id,k\nu1,5\nu2,five\nu3\n\nu4,\n,5\nu5,1_0\nu6,٣\nu7," + "9" * 30 + "\nu8,2.5\nu9,+1\nz,0")
    assert (requests[0], requests[-1]) == ({"user_id": "u1", "k": 5}, {"user_id": "z", "k": 0})
    assert [str(request) for request in requests[1:-1]] == [
        "line 3: k is 'five'; it must be a whole number of at least 1",
        "line 4 has 1 cells; the columns are user_id, k",
        "line 5 is empty; leave it out",
        "line 6: k is empty; give it a value or leave the row out",
        "line 7: user_id is empty; give it a value or leave the row out",
        "line 8: k is '1_0'; it must be a whole number of at least 1",
        "line 9: k is '٣'; it must be a whole number of at least 1",
        "line 10: k is '999999999999999999999999999999'; it must be a whole number of at least 1",
        "line 11: k is '2.5'; it must be a whole number of at least 1",
        "line 12: k is '+1'; it must be a whole number of at least 1",
    ]
    assert all(isinstance(request, BadRequest) for request in requests[1:-1])


def test_a_table_in_another_encoding_has_an_error_on_every_line() -> None:
    faults = requests_of(CSV, "u1,a\nu2,b\n".encode("utf-16"))
    assert ["NUL byte" in str(each) for each in faults] == [True, True, True]


def test_extremes_of_size() -> None:
    assert "line 1: user_id has more than 1,024 characters" in fault(b"x" * 131_072 + b",a")
    assert "line 2 cannot be read: field larger than field limit (131072)" in fault(b"u,a\n" + b"x" * 140_000)
    assert "line 2 has more than 786,448 bytes" in fault(b"u,a\n" + b"x" * 1_000_000)
    assert "line 1 has more than 786,448 bytes" in fault(b"," * 2_000_000)
    assert "line 1 cannot be read" in str(requests_of(CSV, b'"' + b"\n" * 100_000 + b"x")[0])
    faults = requests_of(CSV, b"u,a\n" + b",\n" * 200_000)
    assert len(faults) == 200_001
    assert "line 200001: user_id is empty" in str(faults[-1])
    assert csv.field_size_limit() == 131_072


@anything
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_csv_writes_is_read_back(rows: list[tuple[str, str]], end: str, quoted: bool) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([("user_id", "item_id"), *rows])
    assert decode(file.getvalue()) == rows


VALID = b'user_id,k\r\n"u,1",10\r\nu2,7\r\n'


@anything
@given(st.sampled_from((VALID, b'u1,a\n"u""2",b\n')), st.binary(max_size=12), st.integers(0, 30), st.integers(0, 12))
def test_any_bytes_are_read_or_refused(valid: bytes, noise: bytes, at: int, width: int) -> None:
    for body in (noise, valid[:at] + noise + valid[at + width :]):
        with contextlib.suppress(BadRequest):
            assert requests_of(CSV, body)


@anything
@given(st.text(st.sampled_from('ab,"\n\r\0 k1'), max_size=20))
def test_any_few_marks_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadRequest):
        assert decode(text)


@pytest.mark.parametrize(
    ("answers", "many", "text"),
    [
        ([{"scores": [1.5, None, -0.25], "model_name": "m"}], False, "1.5\nnull\n-0.25\n"),
        ([{"scores": [1.5, None]}, {"scores": [2.0]}], True, "1.5,null\n2.0\n"),  # one line a request
        ([{"recommendations": [{"item_id": "a", "score": 1.5}, {"item_id": 7, "score": 0.5}]}], False, "a,1.5,7,0.5\n"),
        ([{"recommendations": []}], False, "null\n"),
        ([{"recommendations": [{"item_id": 'a,"b"', "score": 1e-9}]}], False, '"a,""b""",1e-9\n'),
        ([{"recommendations": [{"item_id": "a", "score": None}, {"item_id": "b"}]}], False, "a,,b,\n"),
        ([{"error": {"code": "bad_request", "message": 'k is "0",\r\n bad'}}], False, '"ERROR: k is ""0"", bad"\n'),
        (
            [
                {"recommendations": [{"item_id": "a", "score": 1.0, "title": "A", "tags": ["x"], "vegan": True}]},
                {"error": {"code": "unknown_model", "message": "no such model"}},
                {"recommendations": [{"item_id": "b", "score": 2.0}, {"item_id": "c", "vegan": None, "price": 3}]},
            ],
            True,
            'a,1.0,A,"[""x""]",true,\nERROR: no such model\nb,2.0,,,,,c,,,,,3\n',
        ),
    ],
)
def test_answers_are_lines(answers: list[dict[str, Any]], many: bool, text: str) -> None:
    assert encode_csv(answers, many) == text.encode()


@anything
@given(st.lists(scores, min_size=1, max_size=5))
def test_scores_are_read_back_exactly(values: list[float | None]) -> None:
    lines = encode_csv([{"scores": values}], False).decode().splitlines()
    assert [json.loads(line) for line in lines] == values
    assert [np.float32(line) for line in lines if line != "null"] == [value for value in values if value is not None]


@anything
@given(st.lists(st.lists(st.tuples(st.text(min_size=1), scores, st.text()), max_size=3), min_size=1, max_size=3))
def test_recommendations_are_read_back(answers: list[list[tuple[str, float | None, str]]]) -> None:
    body = encode_csv(
        [{"recommendations": [{"item_id": i, "score": s, "title": t} for i, s, t in ranked]} for ranked in answers],
        True,
    )
    rows = list(csv.reader(io.StringIO(body.decode(), newline="\n"), strict=True)) if b"\0" not in body else []
    for row, ranked in zip(rows, answers, strict=bool(rows)):
        flat = [text for i, s, t in ranked for text in (i, "" if s is None else float(s), t)]
        assert [float(cell) if at % 3 == 1 and cell else cell for at, cell in enumerate(row)] == (flat or ["null"])
