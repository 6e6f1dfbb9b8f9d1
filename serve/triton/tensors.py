"""Tensors of requests to Triton and of its answers, in Triton's binary form.

The binary tensor extension
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md) has a JSON header
and then the raw tensors. Neither server needs to print or parse numbers, and scores stay exact.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from serve.errors import TritonFailed


class TensorRequest(NamedTuple):
    """A request in Triton's binary form: the body, and the length of its JSON header."""

    body: bytes
    header_length: int


def encode_int64(rows: int, shape: tuple[int, ...], columns: Mapping[str, array[int]]) -> TensorRequest:
    """A request with INT64 inputs [rows, *shape], given by name; it asks for all outputs in binary form."""
    numbers: list[int] = []
    for values in columns.values():
        numbers += (rows, 8 * len(values))
    header = _header(tuple(columns), shape) % tuple(numbers)
    return TensorRequest(b"".join((header, *(values.tobytes() for values in columns.values()))), len(header))


@lru_cache
def _header(names: tuple[str, ...], shape: tuple[int, ...]) -> bytes:
    """The JSON header, with %d in the place of the rows and the bytes of each input."""
    dims = "".join(f",{size}" for size in shape)
    inputs = [
        f'{{"name":"{name}","shape":[%d{dims}],"datatype":"INT64","parameters":{{"binary_data_size":%d}}}}'
        for name in names
    ]
    return f'{{"inputs":[{",".join(inputs)}],"parameters":{{"binary_data_output":true}}}}'.encode()


def join_rows(parts: Sequence[tuple[int, Mapping[str, array[int]]]]) -> tuple[int, dict[str, array[int]]]:
    """The number of rows of all parts, and their columns one after the other; every part has the same columns."""
    joined: dict[str, array[int]] = {}
    for _, columns in parts:
        for name, values in columns.items():
            joined.setdefault(name, array("q")).extend(values)
    return sum([number for number, _ in parts]), joined


def split_rows(outputs: Mapping[str, array[Any]], numbers: Sequence[int]) -> list[dict[str, array[Any]]]:
    """The outputs of each part, given its number of rows; the parts' rows lie one after the other."""
    rows = sum(numbers)
    parts: list[dict[str, array[Any]]] = [{} for _ in numbers]
    for name, values in outputs.items():
        width = len(values) // rows if rows else 0
        end = 0
        for part, number in zip(parts, numbers, strict=True):
            start, end = end, end + number * width
            part[name] = values[start:end]
    return parts


ARRAY_KINDS = {"INT64": "q", "FP32": "f"}


def decode_outputs(body: bytes, header_length: int | None) -> dict[str, array[Any]]:
    """The output tensors by name, flat. Raises TritonFailed if the answer has another form."""
    if header_length is None:
        raise TritonFailed("the model's answer is not in binary form")
    outputs: dict[str, array[Any]] = {}
    position = header_length
    try:
        for output in orjson.loads(memoryview(body)[:header_length])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            values = array(ARRAY_KINDS[output["datatype"]])
            values.frombytes(body[position : position + size])
            outputs[output["name"]] = values
            position += size
    except (KeyError, ValueError) as error:
        raise TritonFailed(f"the model's answer cannot be read: {error!r}") from error
    return outputs
