"""Checks KServe-v2 bodies, JSON or Triton's binary type, before they go to Triton; no I/O.

SageMaker forwards no header for the length of a binary body's JSON part, so the Content-Type has it:
`application/vnd.sagemaker-triton.binary+json;json-header-size=N`. Triton itself has a header for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any

from serve.errors import BadRequest, show

BINARY = b"application/vnd.sagemaker-triton.binary+json"
BINARY_TYPE = re.compile(
    rb"application/vnd\.sagemaker-triton\.binary\+json\s*;\s*json-header-size\s*=([^;]*)(;.*)?", re.IGNORECASE
)
# The product of a thousand dimensions would take too long.
MAX_DIMENSIONS = 32
# Triton's parser is recursive: every level takes a part of its stack.
MAX_NESTED = 1000
MAX_SHAPE_BYTES = 200
MAX_TENSORS = 1000
# The kinds of numbers and texts that Triton reads as data of each datatype, and its own parameters.
WHOLE = dict.fromkeys(("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"), (int,))
DATA = {"BOOL": (bool,), "BYTES": (str,), **WHOLE, **dict.fromkeys(("FP16", "BF16", "FP32", "FP64"), (int, float))}
PARAMETERS = {
    **dict.fromkeys(("priority", "timeout", "binary_data_size"), int),
    **dict.fromkeys(("sequence_start", "sequence_end", "binary_data_output", "binary_data"), bool),
}
# A body with one of these has to be parsed: our own field, and parameters that are refused.
TO_READ = (b'"model"', b'"shared_memory', b'"classification')
PLAIN = re.compile(
    rb'\s*\{\s*(?:"(?:id"\s*:\s*"[^"\\]*"|outputs"\s*:\s*\[[^][]*\]|parameters"\s*:\s*\{[^{}]*\})\s*,\s*){0,3}'
    rb'"inputs"\s*:\s*\['
)
SHAPE = re.compile(rb'"shape"\s*:(?:\s*\[([0-9,\s]+)\])?')
LENGTH_HEADER = b"inference-header-content-length"


def is_binary(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the headers announce a body in Triton's binary form, even if they do so wrongly."""
    return LENGTH_HEADER in headers or _names_binary(headers.get(b"content-type", b""))


@lru_cache(64)
def _names_binary(content_type: bytes) -> bool:
    lowered = content_type.lower()
    return BINARY in lowered and not (lowered.startswith(BINARY) and b"json-header-size" not in lowered)


def binary_header_length(headers: Mapping[bytes, bytes], size: int) -> int:
    """Length of the JSON part of a body of `size` bytes in binary form, which the headers announce (see `is_binary`).

    Raises BadRequest for a length that cannot be.
    """
    content_type = headers.get(b"content-type", b"")
    if _names_binary(content_type):
        match = BINARY_TYPE.fullmatch(content_type.strip())
        if match is None:
            raise BadRequest(
                f"Content-Type is {show(content_type.decode('latin-1'))}; it must be "
                f"{BINARY.decode()};json-header-size=N, N the bytes of the JSON part"
            )
        text = match[1]
    else:
        text = headers[LENGTH_HEADER]
    digits = text.strip()
    if not re.fullmatch(rb"[0-9]{1,10}", digits) or int(digits) > size:
        raise BadRequest(
            f"the length of the JSON part is {show(text.decode('latin-1'))}; it must be a whole number from 0 to the "
            f"body's {size:,} bytes"
        )
    return int(digits)


def is_plain(body: bytes) -> bool:
    """Whether a body is KServe-v2 in JSON that can go to Triton without being parsed: it has no field for `serve`, and
    nothing that could hurt others (see `check_kserve`). If this is False, the body has to be parsed to know.

    A body without a backslash has no escaped names, so a search for a name finds it.
    """
    if PLAIN.match(body) is None or b"\\" in body or may_be_deep(body):
        return False
    for word in TO_READ:
        if word in body:
            return False
    left = len(body)
    for lengths in SHAPE.findall(body):
        if not lengths or len(lengths) > MAX_SHAPE_BYTES or (promised := _promised_by(lengths)) is None:
            return False
        left -= promised
    return left >= 0


@lru_cache(1024)
def _promised_by(lengths: bytes) -> int | None:
    """What `_promised` says of lengths with commas between them; None if it refuses them."""
    try:
        return _promised([int(length) for length in lengths.split(b",")])
    except ValueError:
        return None


def may_be_deep(body: bytes) -> bool:
    """Whether a body could be nested deeper than Triton's recursive parser may go.

    The depth is at most the number of opening brackets; a list that opens where another one closes adds no depth.
    """
    return _opened(body) > MAX_NESTED and _opened(body.replace(b"], [", b"").replace(b"],[", b"")) > MAX_NESTED


def _opened(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _promised(shape: list[int]) -> int:
    """How many numbers a shape promises. A length of 0 counts as 1, because Triton allocates by the other lengths too
    (docs/log.md).

    Raises ValueError for a batch of 0 rows, which a model never answers.
    """
    if len(shape) > 1 and shape[0] == 0:
        raise ValueError("a batch of 0 rows cannot be answered")
    return prod(max(length, 1) for length in shape)


def check_kserve(document: Any, size: int) -> None:
    """Refuse a KServe-v2 body that would hurt others: shapes that together promise more numbers than `size` bytes can
    hold, and shared memory, which belongs to this machine's own processes.

    Triton allocates what a shape says before it looks at the data; a large one kills the server for everybody
    (docs/log.md). Raises BadRequest.
    """
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list):
        raise BadRequest(f"inputs is {show(inputs)}; it must be a list")
    outputs, parameters = document.get("outputs", []), document.get("parameters", {})
    if not isinstance(outputs, list):
        raise BadRequest(f"outputs is {show(outputs)}; it must be a list")
    if not isinstance(parameters, dict):
        raise BadRequest(f"parameters is {show(parameters)}; it must be an object")
    if max(len(inputs), len(outputs)) > MAX_TENSORS:
        raise BadRequest(f"the body has {max(len(inputs), len(outputs)):,} tensors; at most {MAX_TENSORS:,} are taken")
    left = size
    for number, tensor in enumerate(inputs):
        shape = tensor.get("shape") if isinstance(tensor, dict) else None
        if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
            raise BadRequest(f"inputs[{number}] needs a shape, a list of whole numbers of at least 0")
        try:
            count = _promised(shape[:MAX_DIMENSIONS])
        except ValueError as error:
            raise BadRequest(f"inputs[{number}] has shape {shape[:8]}: {error}") from None
        if len(shape) > MAX_DIMENSIONS or count > left:
            raise BadRequest(f"inputs[{number}] has shape {shape[:8]}, which is more than its data can fill")
        left -= count
    for field, tensors in (("inputs", inputs), ("outputs", outputs)):
        for number, tensor in enumerate(tensors):
            if not isinstance(tensor, dict):
                raise BadRequest(f"{field}[{number}] is {show(tensor)}; it must be an object")
            own = tensor.get("parameters")  # Triton ignores parameters that are no object
            if isinstance(own, dict) and "classification" in own:  # for an output of text it ends Triton (docs/log.md)
                raise BadRequest(f"{field}[{number}] asks for classification, which is not done here; sort the scores")
            if isinstance(own, dict) and any(name.startswith("shared_memory") for name in own):
                raise BadRequest(
                    f"{field}[{number}] names shared memory, which no request can use; send the data itself"
                )


def is_readable(document: Any) -> bool:
    """Whether Triton can read a body, of which this is the JSON: then what it says of reading is its model's error."""
    try:
        check_kserve(document, sys.maxsize)
    except BadRequest:
        return False
    inputs, outputs = document["inputs"], document.get("outputs", [])
    own = [tensor["parameters"] for tensor in (*inputs, *outputs) if isinstance(tensor.get("parameters"), dict)]
    return (
        isinstance(document.get("id", ""), str)
        and all(isinstance(tensor.get("name"), str) for tensor in (*inputs, *outputs))
        and all(isinstance(tensor.get("datatype"), str) and _is_filled(tensor) for tensor in inputs)
        and all(
            type(each[name]) is kind and each[name] >= 0
            for each in (document.get("parameters", {}), *own)
            for name, kind in PARAMETERS.items()
            if name in each
        )
    )


def _is_filled(tensor: dict[str, Any]) -> bool:
    """Whether an input has as many values of its datatype as its shape promises, or has them behind the JSON."""
    if isinstance(own := tensor.get("parameters"), dict) and "binary_data_size" in own:
        return True
    kinds, count, rest = DATA.get(tensor["datatype"], (object,)), 0, [tensor.get("data")]
    least, most = (0, 2**64) if tensor["datatype"].startswith("UINT") else (-(2**63), 2**63)
    while rest:
        values = rest.pop()
        if not isinstance(values, list):
            return False
        for value in values:
            if isinstance(value, list):
                rest.append(value)
            elif type(value) not in kinds or (kinds == (int,) and not least <= value < most):
                return False
            else:
                count += 1
    shape: list[int] = tensor["shape"]
    return count == prod(shape)
