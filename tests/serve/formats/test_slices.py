from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import BadRequest, ServeError
from serve.formats.csv_format import EMPTY, HEADER_ONLY
from serve.formats.csv_rows import MAX_LINE
from serve.formats.json_format import Decoded
from serve.formats.registry import CSV, JSON, JSON_LINES, Format
from serve.formats.slice_answers import SliceAnswers
from serve.formats.slices import MAX_JSON_LINE, LineSlices, Slice
from serve.recommend.asks import Answer
from serve.recommend.parse import parse_request, work

pytestmark = pytest.mark.core

BOM = b"\xef\xbb\xbf"
anything = settings(deadline=None, database=None)


def answer(decoded: Decoded) -> list[Answer]:
    """As `Recommenders.answer`, but by a model that knows everything from the ids alone."""
    answers: list[Answer] = []
    for request in decoded.requests:
        if isinstance(request, ServeError):
            if not decoded.many:
                raise request
            answers.append({"error": {"code": request.code, "message": str(request)}, "request_id": "r"})
        elif isinstance(request, dict) and "pairs" in request:
            pairs = zip(request["pairs"]["user_id"], request["pairs"]["item_id"], strict=True)
            scores = [None if user.startswith("?") else len(user) - len(item) / 2 for user, item in pairs]
            unknown = [{"row": row, "message": "unknown"} for row, score in enumerate(scores) if score is None]
            answers.append({"scores": scores, **({"unknown": unknown} if unknown else {}), "request_id": "r"})
        else:
            answers.append({"recommendations": [{"item_id": str(request), "score": 1.5}], "request_id": "r"})
    return answers


def chunks(body: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield body[:size]
        body = body[size:]
    yield body


def cut(format: Format, body: bytes, sizes: list[int] | None = None, **limits: int) -> list[Slice]:
    slices = LineSlices(format, **limits)
    found = [part for chunk in chunks(body, sizes or []) for part in slices.feed(chunk)]
    return [*found, *slices.end()]


def sliced(
    format: Format, body: bytes, sizes: list[int] | None = None, wanted: Format | None = None, **limits: int
) -> bytes:
    answers = SliceAnswers(wanted or format)
    parts = [answers.write(part, answer(part.decoded)) for part in cut(format, body, sizes, **limits)]
    return b"".join([*parts, answers.end()])


def whole(format: Format, body: bytes, wanted: Format | None = None) -> bytes:
    """The answer to a body that comes at once and is one slice."""
    return sliced(format, body, None, wanted, max_requests=10**9, max_work=10**9)


def outcome(function: Any, *arguments: Any, **limits: int) -> bytes | str:
    try:
        result: bytes = function(*arguments, **limits)
    except BadRequest as error:
        return str(error)
    return result


some = st.integers(1, 60)
limits = st.fixed_dictionaries({"max_requests": some, "max_work": some, "max_bytes": some | st.just(10_000)})
sizes = st.lists(st.integers(0, 30), max_size=30)
json_lines = st.lists(
    st.sampled_from(
        (
            *(b'{"user_id": "u1"}', '{"user_id": "é\\n", "k": 3}'.encode(), b'{"inputs": []}', b"[7]", b"null"),
            *(b"", b" ", b"\r", b"\t \x0b", b"{", b'{"k": 1, "k": 1}', b'"\xff"', b"\0", b'{"a": ":"} \x0b', b"x" * 40),
        )
    ),
    max_size=12,
)


@anything
@given(json_lines, st.sampled_from([b"\n", b"\r\n"]), st.sampled_from([b"", BOM]), st.booleans(), sizes, limits)
def test_slices_of_json_lines_are_answered_as_the_whole_body_is(
    lines: list[bytes], end: bytes, bom: bytes, ended: bool, sizes: list[int], limits: dict[str, int]
) -> None:
    body = bom + end.join(lines) + (end if ended else b"")
    for wanted in (JSON_LINES, JSON, CSV):
        expected = outcome(whole, JSON_LINES, body, wanted)
        assert outcome(sliced, JSON_LINES, body, sizes, wanted, **limits) == expected


ids = st.text(st.sampled_from('ab?é ,"\n'), min_size=1, max_size=6)


def table(header: str, rows: list[tuple[str, ...]], end: str, quoted: bool) -> bytes:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if quoted or set(text) & set(',"\n') else text

    lines = [",".join(map(cell, row)) for row in rows]
    return end.join([header, *lines, ""] if header else [*lines, ""]).encode()


HEADERS = (("user_id,item_id", 2), ("", 2), ("item_id,User_ID ", 2), ("user_id", 1), ("", 1), ("k,item_id", 0))
style = st.tuples(st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(0, 3), st.sampled_from([b"", BOM]))


@anything
@given(st.sampled_from(HEADERS), st.data(), style, sizes, limits)
def test_slices_of_tables_are_answered_as_the_whole_table_is(
    columns: tuple[str, int], data: Any, style: tuple[str, bool, int, bytes], sizes: list[int], limits: dict[str, int]
) -> None:
    (header, width), (end, quoted, blank, bom) = columns, style
    one = st.tuples(*[ids] * width) if width else st.tuples(st.integers(0, 30).map(str), ids)
    rows = data.draw(st.lists(one, min_size=1, max_size=10))
    body = bom + table(header, rows, end, quoted) + end.encode() * blank
    assert sliced(CSV, body, sizes, **limits) == whole(CSV, body)
    documents = sliced(CSV, body, sizes, JSON_LINES, **limits).splitlines()
    assert len(documents) == len(rows)
    if width == 2:  # as if every line had been a body with one pair
        alone = [whole(CSV, table(header or "user_id,item_id", [row], "\n", True), JSON_LINES) for row in rows]
        assert [json.loads(line) for line in documents] == [json.loads(line) for line in alone]


marks = st.lists(st.sampled_from([*(b"%c" % sign for sign in b'ab,"\n\r\0k1\xff'), b"\n", b"\r\n"]), max_size=40)


@anything
@given(st.sampled_from([b"user_id\n", b"u,i\n", b"user_id,k\nu,1\n", b""]), marks, sizes, sizes, limits)
def test_any_table_is_cut_the_same_however_it_arrives(
    begin: bytes, rest: list[bytes], one: list[int], other: list[int], limits: dict[str, int]
) -> None:
    body = begin + b"".join(rest)
    found = outcome(sliced, CSV, body, one, **limits)
    assert found == outcome(sliced, CSV, body, other, **limits)
    if isinstance(found, bytes) and b'"' not in body:
        lines = body.split(b"\n")
        while lines[-1] in (b"", b"\r"):
            lines.pop()
        assert found.count(b"\n") == len(lines) - (b"_" in begin)
    assert isinstance(found, bytes) or found in (EMPTY, HEADER_ONLY)  # no line can refuse the others


BAD_PAIRS = (b"u", b"u,i,k", b"", b",i", b"u,\0", b"u,\xff", b"u,i\ri", b'"u"x,i', b"u" * 1025 + b",i")


@anything
@given(st.lists(st.sampled_from([b"u,i", b"?,i", *BAD_PAIRS]), max_size=12), sizes, limits)
def test_a_bad_line_of_a_table_costs_itself_alone(lines: list[bytes], sizes: list[int], limits: dict[str, int]) -> None:
    body = b"\n".join([b"user_id,item_id", *lines, b"u,i"]) + b"\n"
    written = sliced(CSV, body, sizes, **limits).decode().split("\n")[:-1]
    for number, (line, out) in enumerate(zip([*lines, b"u,i"], written, strict=True), 2):
        if line in (b"u,i", b"?,i"):
            assert out == ("0.5" if line == b"u,i" else "null")
        else:
            assert out.strip('"').startswith(f"ERROR: line {number}")


def test_a_quote_that_is_not_closed_costs_its_own_line() -> None:
    good = b"u,i\n" * 20_000
    why = "ERROR: line 20001 cannot be read: unexpected end of data; is a quote opened and not closed?"
    for rest in (good * 2, good[:400], b"", b"\n\n"):
        lines = sliced(CSV, good + b'"u,i\n' + rest).decode().split("\n")
        assert lines == ["0.5"] * 20_000 + [why] + ["0.5"] * rest.count(b"u") + [""]
    lines = sliced(CSV, good + b'"u,i\n"v,j\nu,i\n').decode().split("\n")[20_000:]
    assert lines == [why, why.replace("20001", "20002"), "0.5", ""]
    why = "ERROR: line 2 cannot be read: unexpected end of data; is a quote opened and not closed?"
    assert sliced(CSV, b'u,i\n"u,i\n').decode().split("\n") == ["0.5", why, ""]
    assert sliced(CSV, b'"u,i\nu,i\n').decode().split("\n") == [why.replace("2", "1"), "0.5", ""]


def test_a_line_that_is_too_long_is_not_collected() -> None:
    long = b'{"user_id": "' + b"x" * MAX_JSON_LINE
    for sizes in ([], [65_536] * 40):
        body = b'{"user_id": 1}\n' + long + b'"}\n\n{"user_id": 2}\n' + long
        requests = [request for part in cut(JSON_LINES, body, sizes) for request in part.decoded.requests]
        assert [str(request) for request in requests] == [
            "{'user_id': 1}",
            "line 2 has more than 1,048,576 bytes; no line may have more in a body of many",
            "line 3 is empty; leave it out",
            "{'user_id': 2}",
            "line 5 has more than 1,048,576 bytes; no line may have more in a body of many",
        ]
    most = b'"' + b"x" * (MAX_JSON_LINE - 2) + b'"'
    for body in (most, most + b"\n", most + b"\n" + most):
        assert {type(request) for part in cut(JSON_LINES, body) for request in part.decoded.requests} == {str}
    assert b"line 1 has more than 786,448 bytes" in sliced(CSV, b"x" * (MAX_LINE + 1))
    good = b"u,i\n" * 20_000
    body = good + b"," * 2_000_000 + b'\nu,i\n"' + b"\n" * 200_000 + b'",i\nu,i\n'
    written = sliced(CSV, body).decode().split("\n")
    assert written[19_999:20_004] == [
        "0.5",
        '"ERROR: line 20001 has more than 786,448 bytes; no line may have more in a body of many"',
        "0.5",
        "ERROR: line 20003 cannot be read: unexpected end of data; is a quote opened and not closed?",
        "ERROR: line 20004 is empty; leave it out",
    ]
    assert written[-2:] == ["0.5", ""]
    assert len(written) == body.count(b"\n") + 1


@pytest.mark.parametrize("begin", [b'{"user_id": "u1"}\n' * 100_000, b"7\n" + b"\n" * 200_000, b"7\n" * 200_000])
@pytest.mark.parametrize("format", [JSON_LINES, CSV])
def test_memory_is_bounded_whatever_arrives_at_once(format: Format, begin: bytes) -> None:
    body = begin + b"x" * 5_000_000 + b"\n7\n"
    tracemalloc.start()
    slices = LineSlices(format)
    for part in (part for found in (slices.feed(body), slices.end()) for part in found):
        assert len(part.decoded.requests) <= 500
    assert tracemalloc.get_traced_memory()[1] < 25_000_000
    tracemalloc.stop()


def test_slices_have_as_much_work_as_is_allowed() -> None:
    line = b'{"user_id": 1, "k": 100}\n'
    assert [len(part.decoded.requests) for part in cut(JSON_LINES, line * 25, max_work=1010)] == [10, 10, 5]
    assert [len(part.decoded.requests) for part in cut(JSON_LINES, line * 3, max_work=10)] == [1, 1, 1]
    assert [len(part.decoded.requests) for part in cut(JSON_LINES, b"7\n" * 1001)] == [333, 334, 334]
    assert [len(part.faults or ()) for part in cut(CSV, b"u,i\n" * 12, max_requests=1)] == [6, 6]
    assert [len(part.faults or ()) for part in cut(CSV, b"u,i\n" * 12, max_work=8)] == [4, 4, 4]


REQUESTS: tuple[dict[str, Any], ...] = (
    {"user_id": "u"},
    {"user_id": "u", "k": 70, "with": ["title", "year"], "exclude": ["a", "b"], "allow": ["c"]},
    {"user_id": "u", "candidates": ["a", "b", "c"], "k": 1, "with": ["title", "year"]},
    {"pairs": [{"user_id": "u", "item_id": "i"}] * 7},
    {"pairs": {"user_id": ["u"] * 9, "item_id": ["i"] * 9}},
)


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_work_of_a_slice_is_no_less_than_what_is_counted_later(request_: dict[str, Any]) -> None:
    most = work(parse_request(dict(request_), 5000))
    line = json.dumps(request_).encode() + b"\n"
    for part in cut(JSON_LINES, line * 5, max_work=most * 3):
        assert len(part.decoded.requests) <= 3
    assert sum(len(part.decoded.requests) for part in cut(JSON_LINES, line * 5, max_work=most * 3)) == 5


def test_pairs_of_a_failed_slice_are_an_error_each() -> None:
    body = b"u1,a\nu2\n?3,c\n" * 3
    first, second, third = cut(CSV, body, max_requests=1, max_work=6)
    assert (first.decoded.many, second.decoded.many) == (False, True)  # of the first a failure is raised
    assert first.decoded.requests == [{"pairs": {"user_id": ["u1", "?3"], "item_id": ["a", "c"]}}]
    failed: list[Answer] = [{"error": {"code": "model_failed", "message": "out, of order"}, "request_id": "r"}]
    answers = SliceAnswers(CSV)
    assert answers.write(first, answer(first.decoded)).splitlines() == [
        b"1.5",
        b'"ERROR: line 2 has 1 cells; the columns are user_id, item_id"',
        b"null",
    ]
    assert answers.write(second, failed).count(b"ERROR: out, of order") == 2
    documents = [json.loads(line) for line in SliceAnswers(JSON_LINES).write(third, answer(third.decoded)).splitlines()]
    error = {"code": "bad_request", "message": "line 8 has 1 cells; the columns are user_id, item_id"}
    assert documents == [
        {"scores": [1.5], "request_id": "r"},
        {"error": error, "request_id": "r"},
        {"scores": [None], "unknown": [{"row": 0, "message": "unknown"}], "request_id": "r"},
    ]
    (bad,) = cut(CSV, b"user_id,item_id\nu\n,i\n")
    assert bad.decoded.many
    assert len(bad.decoded.requests) == 1
    assert SliceAnswers(CSV).write(bad, answer(bad.decoded)).count(b"ERROR: line ") == 2
    bad, good = cut(CSV, b"user_id,item_id\nu\nu,i\n", max_work=2)
    assert not good.decoded.many


def test_columns_of_csv_do_not_change_between_slices() -> None:
    def ranked(**columns: str) -> Answer:
        return {"recommendations": [{"item_id": "a", "score": 1.0, **columns}]}

    part = Slice(Decoded([], True))
    answers = SliceAnswers(CSV)
    assert answers.write(part, [{"error": {"message": "no"}}, {"recommendations": []}]) == b"ERROR: no\nnull\n"
    assert answers.write(part, [ranked(title="A"), ranked(), {"scores": [1.0]}]) == b"a,1.0,A\na,1.0,\n1.0\n"
    late = answers.write(part, [ranked(), ranked(year="2001"), {"outputs": []}]).decode().splitlines()
    assert late == [
        "a,1.0,",
        '"ERROR: the columns of this CSV are item_id, score, title, as in its first lines; '
        'ask for application/jsonlines"',
        "ERROR: an answer of Triton's has no form in CSV; ask for application/jsonlines",
    ]
