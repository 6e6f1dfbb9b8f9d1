"""Decides the kind of a body, once, from the headers and the first bytes of the body; and the format of the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import orjson

from serve.errors import NotAcceptable, UnsupportedMediaType, show
from serve.formats import kserve
from serve.formats.json_format import BOM, read_loose
from serve.formats.registry import CSV, FORMATS, JSON, JSON_LINES, NPY, TRITON_CONTENT_TYPES, Format
from serve.http1.accept import weights

# The first bytes of a body from which its kind is decided.
HEAD_BYTES = 65_536
OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")
CHARSETS = ("utf-8", "utf8", "us-ascii")

_BY_NAME = {name: format for format in FORMATS for name in format.content_types}
# These types say nothing about the body (curl -d sends the last of them for everything), so the body is JSON.
_BY_CONTENT_TYPE = _BY_NAME | dict.fromkeys(("", "application/octet-stream", "application/x-www-form-urlencoded"), JSON)


class Body(NamedTuple):
    """What a body is: Triton's binary form, one record a line, or one document.

    `refused` is the reason if only KServe-v2 is taken under this Content-Type, else "".
    """

    kind: Literal["binary", "lines", "document"]
    format: Format
    refused: str = ""


def classify(headers: Mapping[bytes, bytes], head: bytes) -> Body:
    """The kind and format of a body by its headers and its first HEAD_BYTES bytes, or all bytes of a shorter body.

    Nothing else may decide: not how many bytes have arrived yet, and not whether the body is compressed or chunked.
    Raises UnsupportedMediaType for a Content-Type that cannot be read, unless the body is JSON that may be KServe-v2.
    """
    if kserve.is_binary(headers):
        return Body("binary", JSON)
    refused = ""
    try:
        format = content_format(headers.get(b"content-type"))
    except UnsupportedMediaType as error:
        if not is_json_object(head):
            raise
        format, refused = JSON, str(error)
    if (format is CSV or format is NPY) and is_json_object(head):
        format = JSON  # SageMaker's examples send JSON under any type
    if format is NPY:
        return Body("document", NPY)
    if format is not CSV:
        first = _first_of_many(head)
        if first is not None:
            if refused and "inputs" not in first:
                raise UnsupportedMediaType(refused)
            return Body("lines", JSON_LINES)
        if format is JSON or kserve.PLAIN.match(head):  # also KServe-v2 over several lines that is called JSON Lines
            return Body("document", JSON, refused)
    return Body("lines", format)


def _first_of_many(head: bytes) -> dict[str, object] | None:
    """The document on the first line if it is a whole object and more follows it: then the body is JSON Lines,
    whatever its Content-Type says. Else None."""
    end = head.find(b"\n")
    if end < 0 or head[end:].isspace():
        return None
    first = head[:end].removeprefix(BOM).strip()
    if not (first.startswith(b"{") and first.endswith(b"}")):
        return None
    try:
        document: dict[str, object] = orjson.loads(first)
    except orjson.JSONDecodeError:
        return read_loose(first)
    return document


@lru_cache(64)
def content_format(content_type: bytes | None) -> Format:
    """The format that a Content-Type names.

    Raises UnsupportedMediaType for a type that is not known, and for text in another charset than UTF-8.
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
    return found


def is_json_object(body: bytes) -> bool:
    """Whether a body begins as a JSON object does: KServe-v2 is taken under any Content-Type."""
    return OBJECT.match(body) is not None


def answer_format(accept: bytes | None, asked: Format, formats: Sequence[Format] = FORMATS) -> Format:
    """The format among `formats` that Accept prefers: by q, then by how narrow the range is, then by the order there.

    Within one range the request's own format comes first. Without Accept, or if nothing in it can be read, the answer
    has the format of the request. Raises NotAcceptable if nothing is left.
    """
    if accept is None or accept == b"*/*":
        return asked
    if (named := _BY_NAME.get(accept.decode("latin-1"))) in formats and named is not None:
        return named
    ranges = {
        name: (q, -place) for place, (name, q) in enumerate(weights(accept).items()) if "/" in name or name == "*"
    }
    if not ranges:
        return asked
    ranges.setdefault("*/*", ranges.get("*", (0.0, 0)))  # Java's URLConnection sends a single star
    best, chosen = (0.0, 0, 0, False), None
    for format in formats:
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
        known = ", ".join(format.content_types[0] for format in formats)
        raise NotAcceptable(f"Accept is {show(accept.decode('latin-1'))}; answers can be {known}")
    return chosen
