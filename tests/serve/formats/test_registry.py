from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import NotAcceptable, UnsupportedMediaType
from serve.formats import registry as codec
from serve.formats.registry import CSV, FORMATS, JSON, JSON_LINES, NPY, answer_format, request_format

BOM = b"\xef\xbb\xbf"
anything = settings(deadline=None, database=None)


def test_content_types_of_formats_are_apart() -> None:
    names = [name for format in FORMATS for name in format.content_types]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() for name in names)
    assert [format.header for format in FORMATS] == [
        b"application/json", b"application/jsonlines", b"text/csv", b"application/x-npy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "format"),
    [
        (None, JSON),
        (b"", JSON),
        (b" ; ", JSON),
        (b"application/octet-stream", JSON),
        (b"application/x-www-form-urlencoded", JSON),
        (b"Application/JSON", JSON),
        (b"application/json; charset=UTF-8", JSON),
        (b'application/json;charset="utf8"', JSON),
        (b"application/json ; profile=x; Charset=US-ASCII", JSON),
        (b"application/x-ndjson", JSON_LINES),
        (b"application/jsonlines; charset=utf-8", JSON_LINES),
        (b"text/csv", CSV),
        (b"text/csv; header=present", CSV),
        (b"application/x-npy", NPY),
    ],
)
def test_the_format_of_a_request(content_type: bytes | None, format: codec.Format) -> None:
    assert request_format(content_type, b"u17,10") is format


@pytest.mark.parametrize("body", [b"{", b'{"inputs": []}', BOM + b"{}", b" \r\n\t{", BOM + b"\n{"])
def test_an_object_is_json_where_a_table_is_announced(body: bytes) -> None:
    assert request_format(b"text/csv", body) is JSON
    assert request_format(b"application/x-npy", body) is JSON
    assert request_format(b"application/jsonlines", body) is JSON_LINES
    assert codec.is_json_object(body)


def test_other_content_types_are_refused_with_all_that_are_taken() -> None:
    for content_type in (b"text/html", b"application", b"\xff\xfe", b"x" * 100_000, b"application/json, text/csv"):
        with pytest.raises(UnsupportedMediaType) as caught:
            request_format(content_type, b"{}")
        for name in (*(name for format in FORMATS for name in format.content_types), *codec.TRITON_CONTENT_TYPES):
            assert name in str(caught.value)
        assert len(str(caught.value)) < 450
    with pytest.raises(UnsupportedMediaType, match="charset is 'iso-8859-1'; send the body in UTF-8"):
        request_format(b'text/csv; Charset="ISO-8859-1"', b"{}")


@pytest.mark.parametrize(
    ("accept", "asked", "format"),
    [
        (None, CSV, CSV),
        (b"", NPY, NPY),
        (b" , ", NPY, NPY),
        (b"*/*", JSON_LINES, JSON_LINES),
        (b"*", CSV, CSV),
        (b"text/html, image/gif, *; q=.2, */*; q=.2", CSV, CSV),
        (b"text/html,application/xhtml+xml,*/*;q=0.8", JSON, JSON),
        (b"application/json", CSV, JSON),
        (b"APPLICATION/JSON; charset=utf-8", CSV, JSON),
        (b"application/ndjson", JSON, JSON_LINES),
        (b"application/*", JSON_LINES, JSON_LINES),
        (b"application/*", NPY, NPY),
        (b"text/*", JSON, CSV),
        (b"text/*, application/*", JSON, CSV),  # in the caller's order
        (b"text/csv, application/json", JSON, CSV),
        (b"text/csv;q=0.5, application/json", CSV, JSON),
        (b"text/csv;q=0.5, application/json;q=0.7, */*;q=0.6", CSV, JSON),
        (b"*/*, text/csv", JSON, CSV),  # the narrower range of equal q
        (b"application/json;q=0, */*", JSON, JSON_LINES),
        (b"application/*;q=0, */*;q=0.1", JSON, CSV),
        (b"text/*;q=0, text/csv;q=0.1, application/*;q=0", JSON, CSV),
        (b"text/csv;q=high, application/json;q=0.1", CSV, JSON),
        (b"text/csv;q=high", JSON, JSON),
        (b"text/html, application/json;q=0.001", CSV, JSON),
        (b"nonsense", CSV, CSV),
    ],
)
def test_the_format_of_an_answer(accept: bytes | None, asked: codec.Format, format: codec.Format) -> None:
    assert answer_format(accept, asked) is format


@pytest.mark.parametrize("accept", [b"text/html", b"*/*;q=0", b"application/json;q=0", b"text/csv;q=0, text/html"])
def test_an_answer_in_no_possible_format_is_refused(accept: bytes) -> None:
    with pytest.raises(
        NotAcceptable, match="answers can be application/json, application/jsonlines, text/csv, application/x-npy"
    ):
        answer_format(accept, JSON)


def test_of_an_endless_header_the_beginning_is_read() -> None:
    assert answer_format(b"application/x-npy," + b"a/b," * 25_000, JSON) is NPY
    assert answer_format(b"," * 100_000, CSV) is CSV
    with pytest.raises(NotAcceptable):
        answer_format(b"a/b," * 25_000, JSON)


@anything
@given(st.binary(max_size=60), st.sampled_from(FORMATS))
def test_any_header_is_understood_or_refused(header: bytes, asked: codec.Format) -> None:
    with contextlib.suppress(NotAcceptable):
        assert answer_format(header, asked) in FORMATS
    with contextlib.suppress(UnsupportedMediaType):
        assert request_format(header, b"") in FORMATS
