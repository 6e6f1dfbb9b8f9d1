"""Tensors of requests to Triton and of its answers, in Triton's binary form.

The binary tensor extension
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md) has a JSON header
and then the raw tensors. Neither server needs to print or parse numbers, and scores stay exact.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from serve.errors import TritonFailed


@dataclass(frozen=True)
class TensorRequest:
    """A request in Triton's binary form: the body, and the length of its JSON header."""

    body: bytes
    header_length: int


def encode_int64(rows: int, shape: tuple[int, ...], columns: Mapping[str, array[int]]) -> TensorRequest:
    """A request with INT64 inputs [rows, *shape], given by name; it asks for all outputs in binary form."""
    inputs = [
        {
            "name": name,
            "shape": [rows, *shape],
            "datatype": "INT64",
            "parameters": {"binary_data_size": 8 * len(values)},
        }
        for name, values in columns.items()
    ]
    header = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return TensorRequest(header + b"".join(values.tobytes() for values in columns.values()), len(header))


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
