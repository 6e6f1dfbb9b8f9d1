from __future__ import annotations

from typing import Any

import pytest

from serve.errors import BadRequest
from serve.kserve import binary_header_length, check_kserve

BINARY = b"application/vnd.sagemaker-triton.binary+json"


@pytest.mark.parametrize(
    ("content_type", "length"),
    [
        (b"application/json", None),
        (b"", None),
        (BINARY + b";json-header-size=12", 12),
        (BINARY + b";json-header-size=0", 0),
        (BINARY + b"; json-header-size=12", 12),  # C50
        (BINARY.upper() + b";JSON-Header-Size=12", 12),
        (BINARY + b";json-header-size=12; charset=utf-8", 12),
    ],
)
def test_c046_the_type_carries_the_length(content_type: bytes, length: int | None) -> None:
    assert binary_header_length({b"content-type": content_type}, 20) == length


@pytest.mark.parametrize(
    "content_type",
    [
        b"additional-string/" + BINARY + b";json-header-size=12",
        BINARY,
        BINARY + b";json-header-size=",
        BINARY + b";json-header-size=x",
        BINARY + b";json-header-size=-1",
        BINARY + b";json-header-size=21",
        BINARY + b";json-header-size=99999999999999999999",
        BINARY + b";size=12",
    ],
)
def test_c048_a_length_that_cannot_be_is_refused(content_type: bytes) -> None:
    with pytest.raises(BadRequest):
        binary_header_length({b"content-type": content_type}, 20)


def test_c051_tritons_own_header_is_taken_too() -> None:
    assert binary_header_length({b"inference-header-content-length": b"7"}, 20) == 7
    with pytest.raises(BadRequest):
        binary_header_length({b"inference-header-content-length": b"21"}, 20)


GOOD = {"name": "x", "shape": [2, 1], "datatype": "INT64", "data": [1, 2]}


def test_a_usual_body_passes() -> None:
    check_kserve({"inputs": [GOOD]}, 100)
    check_kserve({"inputs": [{**GOOD, "parameters": {"binary_data_size": 16}}], "outputs": [{"name": "y"}]}, 100)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"inputs": {"name": "x"}},
        {"inputs": [5]},
        {"inputs": [{"name": "x"}]},
        {"inputs": [{**GOOD, "shape": [2**62, 1]}]},
        {"inputs": [{**GOOD, "shape": [101]}]},
        {"inputs": [{**GOOD, "shape": [-1]}]},
        {"inputs": [{**GOOD, "shape": [True]}]},
        {"inputs": [{**GOOD, "shape": 2}]},
    ],
)
def test_a_shape_that_could_hurt_others_is_refused(document: Any) -> None:
    with pytest.raises(BadRequest):
        check_kserve(document, 100)


def test_c052_shared_memory_is_refused() -> None:
    named = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    with pytest.raises(BadRequest, match=r"inputs\[0\] names shared memory"):
        check_kserve({"inputs": [{**GOOD, "parameters": named}]}, 100)
    with pytest.raises(BadRequest, match=r"outputs\[0\] names shared memory"):
        check_kserve({"inputs": [GOOD], "outputs": [{"name": "y", "parameters": named}]}, 100)
