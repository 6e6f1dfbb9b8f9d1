"""What is read straight is what the document says; everything else is left to the reader of documents."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import ServeError
from serve.formats.json_format import parse_json
from serve.recommend.parse import Parsed, RankRequest, ScoreRequest, parse_request
from serve.recommend.straight import MAX_BYTES, read_straight

pytestmark = pytest.mark.core

anything = settings(deadline=None, database=None)


def by_document(body: bytes) -> Parsed | None:
    """The same by the reader of documents, None if it refuses the body."""
    try:
        document = parse_json(body)
        model = document.pop("model", None) if type(document) is dict else None
        return Parsed(parse_request(document, 1_000_000), model)
    except ServeError:
        return None


@pytest.mark.parametrize(
    ("body", "request_", "model"),
    [
        (b'{"user_id": "u17"}', RankRequest("u17"), None),
        (b'{"user_id": 17, "k": 5, "model": "m"}', RankRequest(17, k=5), "m"),
        ('{"k": 1, "user_id": "émile"}'.encode(), RankRequest("émile", k=1), None),
        (b'{"pairs": [{"user_id": "u", "item_id": 3}]}', ScoreRequest(["u"], [3]), None),
        (
            b' {"model": "m", "pairs": [{"item_id": "i", "user_id": 1}, {"user_id": 2, "item_id": "j"}]}\n',
            ScoreRequest([1, 2], ["i", "j"]),
            "m",
        ),
        (b'{"user_id": "\\u0061"}', RankRequest("a"), None),
    ],
)
def test_frequent_bodies_are_read_straight(body: bytes, request_: Any, model: str | None) -> None:
    assert read_straight(body) == Parsed(request_, model) == by_document(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'\xef\xbb\xbf{"user_id": 1}',
        b'{"user_id": 1, "exclude": [2]}',
        b'{"user_id": 1, "user_id": 2}',
        b'{"pairs": [{"user_id": 1, "item_id": 2, "item_id": 2}]}',
        b'{"user_id": "a:b"}',
        b'{"user_id": ""}',
        b'{"user_id": "%b"}' % (b"x" * 1025),
        b'{"user_id": true}',
        b'{"user_id": 1.0}',
        b'{"user_id": 18446744073709551615}',
        b'{"user_id": 1, "k": 0}',
        b'{"user_id": 1, "k": true}',
        b'{"user_id": 1, "k": 1.0}',
        b'{"user_id": 1, "model": null}',
        b'{"user_id": 1, "pairs": [{"user_id": 1, "item_id": 2}]}',
        b'{"pairs": []}',
        b'{"pairs": [{"user_id": 1}]}',
        b'{"pairs": {"user_id": [1], "item_id": [2]}}',
        b'{"user_id": "\xff"}',
        b'{"user_id": "\\ud800"}',
        b'{"user_id": 1} {"user_id": 2}',
        b'{"user_id": 1, "k": 3' + b" " * MAX_BYTES + b"}",
    ],
)
def test_other_bodies_are_left_to_the_reader_of_documents(body: bytes) -> None:
    assert read_straight(body) is None


ID = st.one_of(st.text(max_size=4), st.integers(), st.sampled_from([True, 1.0, None, 2**63, 2**64, "a:b", "x" * 1025]))
PAIR = st.one_of(st.fixed_dictionaries({"user_id": ID, "item_id": ID}, optional={"k": ID}), ID)
FIELDS = {
    "user_id": ID,
    "k": st.one_of(st.integers(-1, 12), ID),
    "model": st.one_of(st.text(max_size=3), ID),
    "pairs": st.one_of(st.lists(PAIR, max_size=4), ID),
    "exclude": st.lists(ID, max_size=2),
}


@anything
@given(st.one_of(st.fixed_dictionaries({}, optional=FIELDS), PAIR, st.lists(PAIR, max_size=2)))
def test_a_body_that_is_read_straight_means_what_its_document_means(document: Any) -> None:
    try:
        body = orjson.dumps(document)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        return
    straight = read_straight(body)
    assert straight is None or straight == by_document(body)


@anything
@given(st.data())
def test_no_bytes_do_anything_else(data: Any) -> None:
    """A right body with some bytes changed is read as its document is, or left alone."""
    body = bytearray(b'{"model": "m", "pairs": [{"user_id": "u:1", "item_id": -7}], "k": 12}')
    if data.draw(st.booleans()):
        body = bytearray(b'{"user_id": "u\\u0041", "k": 12}')
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        body = body or bytearray(b" ")
    straight = read_straight(bytes(body))
    assert straight is None or straight == by_document(bytes(body))
