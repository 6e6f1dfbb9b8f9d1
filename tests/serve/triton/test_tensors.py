from __future__ import annotations

import struct
from array import array

import orjson
import pytest

from serve.errors import TritonFailed
from serve.triton import tensors


def test_inputs_are_a_json_header_and_raw_tensors() -> None:
    columns = {"user_index": array("q", [1, -1]), "item_index": array("q", [2**62, 5])}
    request = tensors.encode_int64(2, (1,), columns)
    header = orjson.loads(request.body[: request.header_length])
    assert [(t["name"], t["shape"], t["datatype"]) for t in header["inputs"]] == [
        ("user_index", [2, 1], "INT64"),
        ("item_index", [2, 1], "INT64"),
    ]
    assert struct.unpack("<4q", request.body[request.header_length :]) == (1, -1, 2**62, 5)
    assert header["parameters"] == {"binary_data_output": True}


def test_outputs_come_back_exactly() -> None:
    described = [
        {"name": "item_index", "datatype": "INT64", "parameters": {"binary_data_size": 16}},
        {"name": "score", "datatype": "FP32", "parameters": {"binary_data_size": 8}},
    ]
    header = orjson.dumps({"outputs": described})
    outputs = tensors.decode_outputs(header + struct.pack("<2q2f", 7, -1, 0.5, -3.25), len(header))
    assert outputs["item_index"].tolist() == [7, -1]
    assert outputs["score"].tolist() == [0.5, -3.25]


@pytest.mark.parametrize("header", [b"{}", b'{"outputs":[{"name":"x","datatype":"BYTES"}]}', b"["])
def test_an_answer_of_another_form_is_the_models_fault(header: bytes) -> None:
    with pytest.raises(TritonFailed):
        tensors.decode_outputs(header, len(header))
    with pytest.raises(TritonFailed):
        tensors.decode_outputs(header, None)
