"""Bytes to requests and answers to bytes: the one table of formats, and which of them a request and its answer have.

A codec looks at the form of a body, `recommend` at what a request asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from serve.errors import NotAcceptable, UnsupportedMediaType, show
from serve.formats.csv_format import decode_csv, encode_csv
from serve.formats.json_format import (
    Answer,
    Decoded,
    decode_json,
    decode_json_lines,
    encode_json,
    encode_json_lines,
    parse_json,
    to_json,
)
from serve.formats.npy_format import decode_npy, encode_npy
from serve.http1.accept import weights

__all__ = ["FORMATS", "Decoded", "Format", "answer_format", "is_json_object", "parse_json", "request_format", "to_json"]

OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")
CHARSETS = ("utf-8", "utf8", "us-ascii")


@dataclass(frozen=True)
class Format:
    """One way to write requests and answers; answers carry the first of its content types.

    `decode(body, max_requests)` raises BadRequest, `encode(answers, many)` NotAcceptable where the form has no room.
    """

    name: str
    content_types: tuple[str, ...]
    decode: Callable[[bytes, int], Decoded]
    encode: Callable[[list[Answer], bool], bytes]

    @property
    def header(self) -> bytes:
        """Content-Type of an answer."""
        return self.content_types[0].encode()


JSON = Format("JSON", ("application/json",), decode_json, encode_json)
JSON_LINES = Format(
    "JSON Lines",
    (
        "application/jsonlines",
        "application/x-jsonlines",
        "application/jsonl",
        "application/x-ndjson",
        "application/ndjson",
    ),
    decode_json_lines,
    encode_json_lines,
)
CSV = Format("CSV", ("text/csv", "application/csv"), decode_csv, encode_csv)
NPY = Format("NPY", ("application/x-npy",), decode_npy, encode_npy)
FORMATS = (JSON, JSON_LINES, CSV, NPY)
# What passes through to Triton as it is.
TRITON_CONTENT_TYPES = ("application/vnd.sagemaker-triton.binary+json",)

_BY_NAME = {name: format for format in FORMATS for name in format.content_types}
# What says nothing about the body, and what curl -d says of everything, mean JSON.
_BY_CONTENT_TYPE = _BY_NAME | dict.fromkeys(("", "application/octet-stream", "application/x-www-form-urlencoded"), JSON)


def request_format(content_type: bytes | None, body: bytes) -> Format:
    """The format of a body by its Content-Type; what begins with `{` is no table, but JSON as SageMaker sends it.

    Raises UnsupportedMediaType for another type, and for text in another charset than UTF-8.
    """
    if content_type is None:
        return JSON
    text = content_type.decode("latin-1").lower()
    found = _BY_CONTENT_TYPE.get(text)
    if found is None:
        media_type, *parameters = text[:1024].split(";")
        found = _BY_CONTENT_TYPE.get(media_type.strip())
        if found is None:
            known = ", ".join((*_BY_NAME, *TRITON_CONTENT_TYPES))
            raise UnsupportedMediaType(f"Content-Type is {show(media_type.strip())}; send one of {known}")
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            charset = value.strip().strip('"')
            if name.strip() == "charset" and charset not in CHARSETS:
                raise UnsupportedMediaType(f"charset is {show(charset)}; send the body in UTF-8 and charset=utf-8")
    return JSON if (found is CSV or found is NPY) and is_json_object(body) else found


def is_json_object(body: bytes) -> bool:
    """Whether a body begins as a JSON object does: KServe-v2 is taken under any Content-Type."""
    return OBJECT.match(body) is not None


def answer_format(accept: bytes | None, asked: Format) -> Format:
    """The format that Accept likes best, by q, then by how narrow the range is, then by their order in the header.

    Within one range the request's own format comes first. Without Accept, or where nothing in it can be read, the
    answer has the format of the request. Raises NotAcceptable if nothing is left.
    """
    if accept is None or accept == b"*/*":
        return asked
    if (named := _BY_NAME.get(accept.decode("latin-1"))) is not None:
        return named
    ranges = {
        name: (q, -place) for place, (name, q) in enumerate(weights(accept).items()) if "/" in name or name == "*"
    }
    if not ranges:
        return asked
    ranges.setdefault("*/*", ranges.get("*", (0.0, 0)))  # Java's URLConnection writes it with one star
    best, chosen = (0.0, 0, 0, False), None
    for format in FORMATS:
        for name in format.content_types:
            narrow, (q, place) = next(
                (2 - width, ranges[wide])
                for width, wide in enumerate((name, name.partition("/")[0] + "/*", "*/*"))
                if wide in ranges
            )
            rank = (q, narrow, place, format is asked)
            if q > 0 and rank > best:
                best, chosen = rank, format
    if chosen is None:
        known = ", ".join(format.content_types[0] for format in FORMATS)
        raise NotAcceptable(f"Accept is {show(accept.decode('latin-1'))}; answers can be {known}")
    return chosen
