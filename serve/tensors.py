"""Tensors to Triton and back, in its binary form, and the guard in front of KServe-v2 bodies.

The binary tensor extension
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md) is a JSON header,
then the raw tensors. It spares both servers the printing and parsing of numbers, and keeps scores exact.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import prod
from typing import Any

import orjson

from serve.errors import BadRequest, TritonFailed, show


def check_kserve(document: dict[str, Any], size: int) -> None:
    """Refuse a KServe-v2 body whose shapes promise more numbers than a body of `size` bytes can hold.

    Triton allocates what a shape says before it looks at the data; a large one kills the server for everybody
    (docs/log.md). Raises BadRequest.
    """
    inputs = document["inputs"]
    if not isinstance(inputs, list):
        raise BadRequest(f"inputs is {show(inputs)}; it must be a list")
    for number, tensor in enumerate(inputs):
        shape = tensor.get("shape") if isinstance(tensor, dict) else None
        if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
            raise BadRequest(f"inputs[{number}] needs a shape, a list of whole numbers of at least 0")
        if "data" in tensor and prod(shape) > size:
            raise BadRequest(f"inputs[{number}] has shape {shape[:8]}, which is more than its data can fill")


@dataclass(frozen=True)
class TensorRequest:
    """A request in Triton's binary form: the body, and the length of its JSON header."""

    body: bytes
    header_length: int


def encode_int64(**columns: array[int]) -> TensorRequest:
    """INT64 inputs [B, 1] by name, all of one length; every output is asked for in binary."""
    inputs = [
        {
            "name": name,
            "shape": [len(values), 1],
            "datatype": "INT64",
            "parameters": {"binary_data_size": 8 * len(values)},
        }
        for name, values in columns.items()
    ]
    header = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return TensorRequest(header + b"".join(values.tobytes() for values in columns.values()), len(header))


ARRAY_KINDS = {"INT64": "q", "FP32": "f"}


def decode_outputs(body: bytes, header_length: int | None) -> dict[str, array[Any]]:
    """Flat output tensors by name. Raises TritonFailed for an answer in another form."""
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
