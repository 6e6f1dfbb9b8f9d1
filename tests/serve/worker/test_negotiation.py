from __future__ import annotations

import contextlib
from unittest.mock import ANY

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import NotAcceptable, UnsupportedMediaType
from serve.formats.registry import CSV, FORMATS, FORMATS_FOR_LINES, JSON, JSON_LINES, NPY, TRITON_CONTENT_TYPES, Format
from serve.worker.negotiation import answer_format, classify, content_format

BOM = b"\xef\xbb\xbf"
BINARY = b"application/vnd.sagemaker-triton.binary+json"
anything = settings(deadline=None, database=None)


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
def test_the_format_of_a_request(content_type: bytes | None, format: Format) -> None:
    assert content_format(content_type) is format


@pytest.mark.parametrize("body", [b"{", b'{"inputs": []}', BOM + b"{}", b" \r\n\t{", BOM + b"\n{"])
def test_an_object_is_json_where_a_table_is_announced(body: bytes) -> None:
    for content_type in (b"text/csv", b"application/x-npy"):
        assert classify({b"content-type": content_type}, body) == ("document", JSON, "")
    named_lines = classify({b"content-type": b"application/jsonlines"}, body)[:2]
    assert named_lines == (("document", JSON) if b"inputs" in body else ("lines", JSON_LINES))


def test_other_content_types_are_refused_with_all_that_are_taken() -> None:
    for content_type in (b"text/html", b"application", b"\xff\xfe", b"x" * 100_000, b"application/json, text/csv"):
        with pytest.raises(UnsupportedMediaType) as caught:
            content_format(content_type)
        for name in (*(name for format in FORMATS for name in format.content_types), *TRITON_CONTENT_TYPES):
            assert name in str(caught.value)
        assert len(str(caught.value)) < 450
    with pytest.raises(UnsupportedMediaType, match="charset is 'iso-8859-1'; send the body in UTF-8"):
        content_format(b'text/csv; Charset="ISO-8859-1"')


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
def test_the_format_of_an_answer(accept: bytes | None, asked: Format, format: Format) -> None:
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
def test_any_header_is_understood_or_refused(header: bytes, asked: Format) -> None:
    with contextlib.suppress(NotAcceptable):
        assert answer_format(header, asked) in FORMATS
    with contextlib.suppress(UnsupportedMediaType):
        assert content_format(header) in FORMATS


def test_an_answer_to_lines_is_in_a_format_with_room_for_them() -> None:
    assert answer_format(b"application/x-npy, text/csv;q=0.5", JSON_LINES, FORMATS_FOR_LINES) is CSV
    assert answer_format(b"*/*", CSV, FORMATS_FOR_LINES) is CSV
    with pytest.raises(NotAcceptable, match=r"answers can be application/json, application/jsonlines, text/csv$"):
        answer_format(b"application/x-npy", CSV, FORMATS_FOR_LINES)


TWO = b'{"user_id": 1}\n{"user_id": 2}\n'
TENSORS = b'{"inputs": []}\n{"inputs": []}\n'


@pytest.mark.parametrize(
    ("content_type", "head", "kind", "format"),
    [
        (b"application/json", b'{"user_id": 1}', "document", JSON),
        (b"application/json", b'{"user_id": 1}\n \r\n', "document", JSON),
        (b"application/json", b'{"user_id":\n1}\n', "document", JSON),
        (b"application/json", b'{"user_id": 1\n{"user_id": 2}', "document", JSON),
        (b"application/json", b"[1]\n[2]\n", "document", JSON),
        (b"application/json", b"", "document", JSON),
        (b"application/json", TWO, "lines", JSON_LINES),
        (b"application/json", BOM + TWO, "lines", JSON_LINES),
        (b"text/csv", TWO, "lines", JSON_LINES),
        (b"image/png", TENSORS, "lines", JSON_LINES),
        (b"application/jsonlines", b'{"user_id": 1}', "lines", JSON_LINES),
        (b"application/jsonlines", b"{broken\n{}", "lines", JSON_LINES),
        (b"application/jsonlines", b'{"inputs": [1]}', "document", JSON),
        (b"application/jsonlines", b'{\n"inputs": [\n1]}', "document", JSON),
        (b"text/csv", b"u1\n", "lines", CSV),
        (b"text/csv", b"", "lines", CSV),
        (b"application/x-npy", b"\x93NUMPY", "document", NPY),
    ],
)
def test_the_kind_of_a_body(content_type: bytes, head: bytes, kind: str, format: Format) -> None:
    assert classify({b"content-type": content_type}, head) == (
        kind,
        format,
        "" if content_type != b"image/png" else ANY,
    )


def test_under_an_unknown_type_only_kserve_is_taken() -> None:
    for head in (b"\x89PNG", TWO, b""):
        with pytest.raises(UnsupportedMediaType, match="Content-Type is 'image/png'"):
            classify({b"content-type": b"image/png"}, head)
    kind, format, refused = classify({b"content-type": b"image/png"}, b'{"user_id": 1}')
    assert (kind, format, "image/png" in refused) == ("document", JSON, True)  # its fields decide when it is read


def test_tritons_binary_form_is_told_by_the_headers() -> None:
    for headers in ({b"content-type": b"x/" + BINARY}, {b"inference-header-content-length": b"7"}):
        assert classify(headers, TWO)[0] == "binary"
