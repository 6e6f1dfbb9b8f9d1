"""The one table of formats: their names, their content types, and how an answer is written in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serve.formats.csv_format import encode_csv
from serve.formats.json_format import Decoded, decode_json, encode_json, encode_json_lines
from serve.formats.kserve import BINARY
from serve.formats.npy_format import decode_npy, encode_npy
from serve.recommend.asks import Answer


@dataclass(frozen=True)
class Format:
    """One way to write requests and answers; answers carry the first of its content types.

    `encode(answers, many)` raises NotAcceptable where the format has no room for an answer. `decode(body,
    max_requests)` raises BadRequest; a format with one record a line has none, because `slices.LineSlices` reads it.
    """

    name: str
    content_types: tuple[str, ...]
    encode: Callable[[list[Answer], bool], bytes]
    decode: Callable[[bytes, int], Decoded] | None = None

    @property
    def header(self) -> bytes:
        """Content-Type of an answer."""
        return self.content_types[0].encode()


JSON = Format("JSON", ("application/json",), encode_json, decode_json)
JSON_LINES = Format(
    "JSON Lines",
    (
        "application/jsonlines",
        "application/x-jsonlines",
        "application/jsonl",
        "application/x-ndjson",
        "application/ndjson",
    ),
    encode_json_lines,
)
CSV = Format("CSV", ("text/csv", "application/csv"), encode_csv)
NPY = Format("NPY", ("application/x-npy",), encode_npy, decode_npy)
FORMATS = (JSON, JSON_LINES, CSV, NPY)
# The formats that an answer to many lines can be written in, slice by slice.
FORMATS_FOR_LINES = (JSON, JSON_LINES, CSV)
# Bodies of this type pass through to Triton as they are.
TRITON_CONTENT_TYPES = (BINARY.decode(),)
