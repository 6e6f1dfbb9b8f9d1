from __future__ import annotations

import contextlib
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import BadRequest, BodyTooLarge
from serve.formats.json_format import MAX_CONTAINERS, MAX_VALUES, Loose, decode_json, parse_json
from serve.formats.registry import JSON, JSON_LINES
from serve.recommend.parse import Parsed, RankRequest
from tests.support.lines import requests_of

pytestmark = pytest.mark.core

BOM = b"\xef\xbb\xbf"
anything = settings(deadline=None, database=None)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=3), parts, max_size=4),
    max_leaves=20,
)


def refusal(body: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        parse_json(body)
    message = str(caught.value)
    assert len(message) < 200
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty; send JSON such as"),
        (b" \r\n", "the body is empty"),
        (BOM, "the body is empty"),
        (b"{x", "is not JSON: unexpected character, expected a string key: line 1 column 2"),
        (b'{"a": 1}{', "; send several documents one a line, as application/jsonlines"),
        (b'{"a": NaN}', "is not JSON"),
        (b'{"a": -Infinity}', "is not JSON"),
        (b'{"a": 1e999}', "is not JSON"),
        (b'{"a": "\\ud800"}', "is not JSON"),
        (b'{"a": 1,}', "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (b'{"user_id": "\xff"}', "the body is not UTF-8; send the text in UTF-8"),
        ('{"user_id": "é"}'.encode("latin-1"), "the body is not UTF-8"),
        ('{"user_id": "u"}'.encode("utf-16"), "the body is not"),
    ],
)
def test_what_is_no_json_says_so(body: bytes, message: str) -> None:
    assert message in refusal(body)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"k": 1, "k": 1}', "'k'"),
        (b'{"k": 1, "\\u006b": 2}', "'k'"),
        (b'{"pairs": [{"user_id": 1, "item_id": 2}, {"user_id": 1, "item_id": 2, "user_id": 3}]}', "'user_id'"),
        (b'{"model": "m", "requests": [{"k": 1}], "model": "n"}', "'model'"),
        (b'[[], {"a": 1, "a": 2}]', "'a'"),
        (b'[1, {"a": 1, "a": 2}]', "'a'"),
        (b'{"a": "x:y", "b": {"c": 1, "d": [[{"e": 1, "e": 2}]]}}', "'e'"),
        # texts and lists must not be counted as if they were keys
        (b'{"pairs": ["ab"], "a": 1, "a": 2}', "'a'"),
        (b'{"pairs": [["ab", "cd"]], "a": 1, "a": 2}', "'a'"),
        # nor a colon that is written as \\u003a
        (b'{"a": "\\u003a\\u003A", "b": 1, "b": 2}', "'b'"),
        (b'{"a": "\\\\u003a", "b": 1, "b": 2}', "'b'"),
        (b'{"a": "\\\\\\u003a", "\\u003a": 1, ":": 2}', "':'"),
        (b'{"a": {"b": ":::"}, "a": ":"}', "'a'"),
    ],
)
def test_a_name_that_an_object_has_twice_is_refused(body: bytes, name: str) -> None:
    assert f"the body has the field {name}" in refusal(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"user_id": "a:b"}',
        b'{"user_id": ":", "k": {}}',
        b'[1, {"a": 1}]',
        b'{"a": [1, {"b": ":"}], "b": 1}',
        b'{"a": {"\\u003a": "\\\\u003a"}, "b": ["\\\\\\u003A", "\\u003b", "\\\\\\\\u003a"], "\\\\": "\\""}',
        b'{"inputs": [{"name": "a", "shape": [1], "parameters": {"x": 1}, "data": [[1], [2]]}], "id": ":"}',
        b"7",
        b"null",
    ],
)
def test_names_that_come_once_pass_whatever_colons_there_are(body: bytes) -> None:
    assert parse_json(body) == json.loads(body)


def test_extremes_of_size() -> None:
    for deep in (b"[" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
        assert refusal(deep).startswith("the body is nested more than 1,024 levels deep")
    assert "is not JSON" in refusal(b"," * 1_000_000)
    assert parse_json(b"[" * 1000 + b"]" * 1000)
    assert parse_json(b'{"id": "' + b"x:" * 500_000 + b'"}') == {"id": "x:" * 500_000}
    assert parse_json(b'{"a": ":", "n": ' + b"1" * 300 + b"}")["n"] == float("1" * 300)
    name = b'"' + b"x" * 30_000 + b'": 1'
    assert "has the field 'xxx" in refusal(b"{" + name + b"," + name + b"}")
    names = b", ".join(b'"%d": 1' % number for number in range(3000))
    assert "has the field '7'" in refusal(b"{" + names + b', "7": 1}')
    names = b", ".join(b'"%d": 1' % number for number in range(100_000))
    assert "has a field more than once in an object" in refusal(
        b"{" + names + b', "7": 1}'
    )  # the name is not looked for


def test_deep_documents_are_read_or_refused() -> None:
    for depth in (1, 100, 250):
        assert parse_json(b'{":":' * depth + b'":"' + b"}" * depth)
    for depth in (300, 1000):
        assert "is nested too deep for its fields to be checked" in refusal(b'{":":' * depth + b"1" + b"}" * depth)
        assert "more than once in an object" in refusal(b'{"a":' + b"[" * depth + b"{}" + b"]" * depth + b', "a": 1}')


@anything
@given(values)
def test_json_is_read_as_pythons_own_parser_reads_it(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert parse_json(BOM + text.encode()) == json.loads(text)


@anything
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*"abc:", "\\\\", "\\\\u003a"]),
            st.sampled_from(
                ['"x:"', '"\\\\"', r'"\u003A\\u003a"', r'"\"\\\u003a:"', "1", "[1]", '{"a":1}', '[{"b":2}]']
            ),
        ),
        max_size=4,
    )
)
def test_repeats_are_found_whatever_stands_beside_them(fields: list[tuple[str, str]]) -> None:
    body = ("{" + ", ".join(f'"{name}": {value}' for name, value in fields) + "}").encode()
    if len(dict(fields)) == len(fields):
        assert len(parse_json(body)) == len(fields)
    else:
        assert "more than once" in refusal(body)


VALID = (
    b'{"model": "m", "user_id": "u17", "k": 10}',
    b'{"requests": [{"user_id": "u:1", "k": 1}, {"user_id": 2}], "model": "m"}',
    b'{"user_id": "u1"}\n{"user_id": 7, "k": 3}\n',
)


@anything
@given(st.sampled_from(VALID), st.binary(max_size=12), st.integers(0, 60), st.integers(0, 12))
def test_any_bytes_are_read_or_refused(valid: bytes, noise: bytes, at: int, width: int) -> None:
    for body in (noise, valid[:at] + noise + valid[at + width :]):
        with contextlib.suppress(BadRequest):
            assert 1 <= len(decode_json(body, 3).requests) <= 3
        with contextlib.suppress(BadRequest):
            assert len(requests_of(JSON_LINES, body)) >= 1


def test_one_request_or_many() -> None:
    assert decode_json(b'{"user_id": "u"}', 1) == ([Parsed(RankRequest("u"))], False)  # read straight
    assert decode_json(b'{"user_id": "u", "exclude": []}', 1) == ([{"user_id": "u", "exclude": []}], False)
    assert decode_json(b"[1]", 1) == ([[1]], False)  # what a request must be is not the codec's matter
    decoded = decode_json(b'{"model": "m", "requests": [{"a": 1}, {"model": "n"}, {"model": null}, 7]}', 4)
    assert decoded == ([{"a": 1, "model": "m"}, {"model": "n"}, {"model": "m"}, 7], True)
    assert decode_json(b'{"requests": [{"a": 1}]}', 4) == ([{"a": 1}], True)
    large = b'{"user_id": "' + b"x" * 1_000_000 + b'"}'
    assert len(decode_json(large, 1).requests[0]["user_id"]) == 1_000_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"requests": []}', "requests is empty; it must be a list such as"),
        (b'{"requests": {}}', "requests is an object; it must be a list"),
        (b'{"requests": null}', "requests is null;"),
        (b'{"requests": [1], "k": 5}', "field 'k' is unknown beside requests; known here: requests, model"),
        (b'{"requests": [1, 2, 3, 4, 5]}', "the body has 5 requests; at most 4 are taken at once"),
    ],
)
def test_a_wrong_list_of_requests_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        decode_json(body, 4)


def test_a_bad_line_fails_alone() -> None:
    body = BOM + b'{"user_id": 1}\r\n\n{x\n{"k": 1, "k": 2}\n' + b"[" * 10_000 + b'\n"\xff"\n \n7\n\n \r\n\n'
    requests = requests_of(JSON_LINES, body)
    assert (requests[0], requests[7]) == ({"user_id": 1}, 7)
    assert list(map(str, requests[1:7])) == [
        "line 2 is empty; leave it out",
        "line 3 is not JSON: unexpected character, expected a string key: column 2",
        "line 4 has the field 'k' more than once in an object; send it once",
        "line 5 is nested more than 1,024 levels deep; a request needs four at the most",
        "line 6 is not UTF-8; send the text in UTF-8",
        "line 7 is empty; leave it out",
    ]
    assert all(isinstance(request, BadRequest) for request in requests[1:7])
    assert len(requests) == 8
    assert requests_of(JSON_LINES, b'{"user_id": 1}') == [{"user_id": 1}]


@pytest.mark.parametrize("body", [b"", b"\n\n", BOM + b" \r\n"])
def test_no_lines_are_no_requests(body: bytes) -> None:
    with pytest.raises(BadRequest, match="the body is empty; send one JSON object a line"):
        requests_of(JSON_LINES, body)


def test_many_values_are_refused_before_they_take_memory() -> None:
    for body in (b"[" + b"[]," * 2_000_000 + b"1]", b"[" + b'{"a":1},' * MAX_CONTAINERS + b"1]"):
        tracemalloc.start()
        with pytest.raises(BodyTooLarge, match=r"objects and lists; at most 500,000 are taken in JSON"):
            parse_json(body)
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.stop()
    with pytest.raises(BodyTooLarge, match=r"the body has 3,000,000 values; at most 1,000,000"):
        parse_json(b"[" + b"1," * 3_000_000 + b"1]")
    assert len(parse_json(b"[" + b"1," * MAX_VALUES + b"1]")) == MAX_VALUES + 1
    pairs = b",".join([b'{"user_id": "u", "item_id": "i"}'] * 250_000)  # as many as SERVE_MAX_WORK allows
    assert len(parse_json(b'{"pairs": [' + pairs + b"]}")["pairs"]) == 250_000


@anything
@given(st.lists(values, min_size=1, max_size=5))
def test_json_answers_are_read_back(documents: list[Any]) -> None:
    answers = [{"answer": document} for document in documents]
    assert json.loads(JSON.encode(answers, True)) == {"responses": answers}
    assert json.loads(JSON.encode(answers, False)) == answers[0]
    assert decode_json(JSON.encode(answers[:1], False), 1) == (answers[:1], False)
    written = JSON_LINES.encode(answers, True)
    assert [json.loads(line) for line in written.split(b"\n")[:-1]] == answers
    assert written.endswith(b"\n")
    assert requests_of(JSON_LINES, written) == answers


LOOSE = [
    b'{"inputs": [NaN, Infinity, -Infinity], "a": "caf\\u00e9"}',
    b'{"a": "caf\xe9 and more", "inputs": [1]}',
    b'{"model": {"x": "\\\\"}, "inp\\u0075ts": [NaN]}',
]


@pytest.mark.parametrize("body", LOOSE)
def test_kserve_that_is_no_strict_json_is_read_as_triton_reads_it(body: bytes) -> None:
    (document,), many = decode_json(body, 10)
    assert isinstance(document, Loose)
    assert (document.raw, many) == (body, False)
    assert "inputs" in document


@pytest.mark.parametrize(
    "body", [LOOSE[0].replace(b"inputs", b"input"), LOOSE[0][:-1] + b', "inputs": []}', b'{"inputs": [NaN],}', b"[NaN]"]
)
def test_what_triton_does_not_take_either_stays_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="is not JSON"):
        decode_json(body, 10)


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'[["u", "i"], [7, 8]]', {"pairs": [["u", "i"], [7, 8]]}),
        (b'{"instances": [{"user_id": "u", "item_id": "i"}], "model": "m"}',
         {"model": "m", "pairs": [{"user_id": "u", "item_id": "i"}]}),
    ],
)  # fmt: skip
def test_pairs_may_be_a_list(body: bytes, document: object) -> None:
    assert decode_json(body, 10) == ([document], False)


def test_requests_may_be_a_list_or_instances() -> None:
    requests = [{"user_id": "u", "k": 2}, {"item_id": "i"}]
    assert decode_json(json.dumps(requests).encode(), 10) == (requests, True)
    assert decode_json(json.dumps({"instances": requests}).encode(), 10) == (requests, True)
    assert decode_json(b'{"instances": [{}], "k": 1}', 10) == ([{"instances": [{}], "k": 1}], False)
