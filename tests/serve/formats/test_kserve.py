from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import BadRequest
from serve.formats.kserve import binary_header_length, check_kserve, is_binary, is_plain

pytestmark = pytest.mark.core

BINARY = b"application/vnd.sagemaker-triton.binary+json"


@pytest.mark.parametrize(
    ("content_type", "length"),
    [
        (BINARY + b";json-header-size=12", 12),
        (BINARY + b";json-header-size=0", 0),
        (BINARY + b"; json-header-size=12", 12),  # C50
        (BINARY.upper() + b";JSON-Header-Size=12", 12),
        (BINARY + b";json-header-size=12; charset=utf-8", 12),
    ],
)
def test_c046_the_type_carries_the_length(content_type: bytes, length: int) -> None:
    assert binary_header_length({b"content-type": content_type}, 20) == length


def test_c030_without_a_length_the_body_is_json() -> None:
    for content_type in (b"application/json", b"", BINARY, BINARY + b";charset=utf-8"):
        assert not is_binary({b"content-type": content_type})


@pytest.mark.parametrize(
    "content_type",
    [
        b"additional-string/" + BINARY + b";json-header-size=12",
        BINARY + b";json-header-size=",
        BINARY + b";json-header-size=x",
        BINARY + b";json-header-size=-1",
        BINARY + b";json-header-size=21",
        BINARY + b";json-header-size=99999999999999999999",
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


PLAIN_BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,1],"data":[1,2]}]}'


def test_a_plain_body_goes_on_unread() -> None:
    assert is_plain(PLAIN_BODY)
    assert is_plain(b' {"id": "a", "outputs": [{"name": "y"}], "parameters": {"a": 1},' + PLAIN_BODY[1:])
    assert is_plain(PLAIN_BODY.replace(b"[2,1]", b"[ 2 , 1 ]"))
    rows = json.dumps([[row, row + 1] for row in range(5000)]).encode()
    assert is_plain(PLAIN_BODY.replace(b"[1,2]", rows).replace(b"[2,1]", b"[5000,2]"))
    assert is_plain(PLAIN_BODY.replace(b"[1,2]", rows.replace(b" ", b"")).replace(b"[2,1]", b"[5000,2]"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"[2,1]", b"[4611686018427387904]"),
        (b"[2,1]", b"[2,1,1000000000]"),
        (b"[2,1]", b"[-2,1]"),
        (b"[2,1]", b"[]"),
        (b"[2,1]", b"[2.0,1]"),
        (b"[2,1]", b"[2,[1]]"),
        (b"[2,1]", b"[2," + b"1," * 200 + b"1]"),
        (b'"shape"', b'"sh\\u0061pe"'),
        (b'"data"', b'"parameters":{"shared_memory_region":"r"},"data"'),
        (b'"data"', b'"shape":[99999999],"data"'),
        (b"[1,2]", b"[" * 1001 + b"]" * 1001),
        (b"[1,2]", b"[1],[" * 500 + b"[" * 1001 + b"]" * 1001 + b"],[1]" * 500),
        (b"[1,2]", b"[0," * 1001 + b"0" + b"]" * 1001),
        (b'{"inputs"', b'{"model":"m","inputs"'),
        (b'{"inputs"', b'{"user_id":"u1","inputs"'),
        (b'{"inputs"', b'[{"inputs"'),
        (b'"x"', b'"x\\""'),
    ],
)
def test_a_body_that_could_hurt_or_is_ours_is_read(old: bytes, new: bytes) -> None:
    assert not is_plain(PLAIN_BODY.replace(old, new))


@given(
    shapes=st.lists(st.lists(st.integers(-3, 10**12) | st.integers(0, 4), max_size=4), min_size=1, max_size=4),
    extra=st.dictionaries(st.sampled_from(["id", "parameters", "outputs", "model", "x"]), st.just([]), max_size=3),
    memory=st.booleans(),
)
def test_what_goes_on_unread_would_pass_the_reading(
    shapes: list[list[int]], extra: dict[str, Any], memory: bool
) -> None:
    inputs: list[dict[str, Any]] = [{"name": "x", "shape": shape, "data": [1]} for shape in shapes]
    if memory:
        inputs[0]["parameters"] = {"shared_memory_region": "r"}
    body = json.dumps({**extra, "inputs": inputs}).encode()
    if is_plain(body):
        assert "model" not in extra
        check_kserve({"inputs": inputs}, len(body))
