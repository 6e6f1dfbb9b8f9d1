"""What /invocations must do with one request, from small and wrong to as large as may be (CONTRACT A4 to A6)."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.answers import binary_parts, invoke, is_error, outputs, typed
from tests.contracts.oracle import BINARY
from tests.support.serving import Answer, Server
from tests.support.small_models import (
    SHARED,
    asked,
    left,
    one,
    output,
    raw_tensor,
    sums,
    tensor,
    words_model,
    write_model,
)

pytestmark = [pytest.mark.e2e, pytest.mark.core]

AMZN = "X-Amzn-SageMaker-"
MIB = 2**20
MOST = 2048  # characters of a message that a client of SageMaker gets to see

# `double`, and for some numbers an error whose text is long, or its traceback too.
DOUBLE = """
import triton_python_backend_utils as triton


def deeper(levels):
    if levels:
        deeper(levels - 1)
    raise ValueError("the reason: " + "because " * 5000)


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request.inputs()[0].as_numpy()) for request in requests]

    def answer(self, number):
        if number.flat[0] == 13:
            return triton.InferenceResponse(error=triton.TritonError("the reason: " + "long " * 5000))
        if number.flat[0] == 14:
            deeper(300)
        return triton.InferenceResponse([triton.Tensor("DOUBLE", 2 * number)])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves `sums`."""
    repository = tmp_path_factory.mktemp("sums")
    write_model("sums", repository / "sums")
    with Server(repository) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def doubling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("doubling")
    write_model("double", repository / "double")
    (repository / "double" / "1" / "model.py").write_text(DOUBLE)
    return repository


@pytest.fixture(scope="module")
def doubler(doubling: Path) -> Iterator[Server]:
    with Server(doubling) as running:
        running.wait_until_ready()
        yield running


def test_c027_c031_an_answer_in_json(server: Server) -> None:
    answer = invoke(server, sums(id="mine"), {"Content-Type": "application/json"})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert (answer.json["id"], answer.json["model_name"], answer.json["model_version"]) == ("mine", "sums", "1")
    first = {"name": "SUM", "datatype": "INT32", "shape": [1, 3], "data": [5, 7, 9]}
    assert answer.json["outputs"] == [first, {**first, "name": "DIFFERENCE", "data": [-3, -3, -3]}]
    assert "id" not in invoke(server, sums()).json


def test_c030_c033_c041_neither_type_nor_accept_nor_any_other_header_is_in_the_way(server: Server) -> None:
    plain = invoke(server, sums()).body
    for kind in ("application/json", "application/octet-stream", "text/csv", "image/png", "no type at all"):
        assert invoke(server, sums(), {"Content-Type": kind}).body == plain
        assert invoke(server, sums(), {"Accept": kind}).body == plain
    many = {f"X-Other-{number}": "v" * 300 for number in range(150)}
    odd = {"Range": "bytes=0-1", "If-Match": "*", "Authorization": "AWS4-HMAC-SHA256 x", "Cookie": "a=b", "TE": "x"}
    assert invoke(server, sums(), many | odd).body == plain


def test_c032_data_flat_nested_or_oddly_nested(server: Server) -> None:
    for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]], [[1], [[2, 3], 4], 5, 6]):
        body = sums(tensor("LEFT", data, [2, 3]), tensor("RIGHT", [0] * 6, [2, 3]))
        assert outputs(invoke(server, body))["SUM"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_c034_other_methods(server: Server, method: str) -> None:
    answer = server.request(method, "/invocations", sums())
    assert is_error(answer, 405)
    assert answer.headers["allow"] == "POST"


WRONG = {
    "unknown input": left(name="NOPE"), "datatype": left(datatype="FP32"), "shape": left(shape=[1, 4], data=[1] * 4),
    "missing input": asked(tensor("LEFT", [1, 2, 3])), "unknown output": sums(outputs=[{"name": "NOPE"}]),
    "too little data": left(data=[1, 2]), "more than a batch": left(shape=[5, 3], data=[1] * 15),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_c035_what_does_not_fit_the_model(server: Server, wrong: str) -> None:
    assert is_error(invoke(server, WRONG[wrong]), 400)


@pytest.mark.parametrize("body", [b"", b"{", b'{"inputs": [', b"[]", b"1", b"hello", b"\x00\xff", sums() + sums()])
def test_c036_what_is_no_request(server: Server, body: bytes) -> None:
    assert is_error(invoke(server, body), 400)


def test_c037_faults_by_their_kind(server: Server) -> None:
    assert is_error(invoke(server, left(data=[666, 2, 3])), 500)  # refused by the model
    assert is_error(invoke(server, left(data=[669, 2, 3])), 500)  # raised in it
    assert is_error(invoke(server, sums(model="nobody")), 404)
    assert outputs(invoke(server, sums()))["SUM"] == [5, 7, 9]


def test_c038_of_the_one_model_there_is_no_other(server: Server) -> None:
    headers = {f"{AMZN}Target-Model": "echo"}
    assert invoke(server, sums(model_name="echo", model_version="7"), headers).json["model_name"] == "sums"


def test_c039_gzip(server: Server) -> None:
    for kind in ("gzip", "GZIP", "x-gzip"):
        assert outputs(invoke(server, gzip.compress(sums()), {"Content-Encoding": kind}))["SUM"] == [5, 7, 9]
    assert is_error(invoke(server, sums(), {"Content-Encoding": "gzip"}), 400)


def test_c043_custom_attributes_come_back(server: Server) -> None:
    for body in (sums(), b"{"):
        answer = invoke(server, body, {f"{AMZN}Custom-Attributes": "trace=7"})
        assert answer.headers[f"{AMZN}Custom-Attributes".lower()] == "trace=7"
    assert f"{AMZN}Custom-Attributes".lower() not in invoke(server, sums()).headers


@pytest.mark.parametrize("number", [13, 14])
def test_c045_an_error_fits_a_clients_message(doubler: Server, number: int) -> None:
    """The platform hands on the whole body of an error, up to a limit; what matters must stand before it."""
    answer = invoke(doubler, one("NUMBER", "INT32", number, shape=[1, 1]))
    assert is_error(answer, 500)
    assert "the reason: " in answer.json["error"]
    assert len(answer.body.decode()) <= MOST


UNKNOWN = [left(name="N" * 9000), sums(outputs=[{"name": "O" * 9000}])]


@pytest.mark.parametrize("body", [sums(model="m" * 9000), *UNKNOWN])
def test_c045_an_error_does_not_repeat_what_is_long(server: Server, body: bytes) -> None:
    answer = invoke(server, body)
    assert answer.status in (400, 404)
    assert len(answer.body.decode()) <= MOST


BOTH = asked(raw_tensor("LEFT"), raw_tensor("RIGHT"))
TAIL = struct.pack("<6i", *range(1, 7))
SUM = struct.pack("<3i", 5, 7, 9)


def test_c046_tensors_behind_the_json(server: Server) -> None:
    assert outputs(invoke(server, BOTH + TAIL, typed(BOTH)))["SUM"] == [5, 7, 9]
    half = sums(raw_tensor("LEFT"))  # one in binary, one in JSON
    assert outputs(invoke(server, half + TAIL[:12], typed(half)))["SUM"] == [5, 7, 9]


def test_c047_outputs_in_binary_mixed_and_all(server: Server) -> None:
    mixed = sums(outputs=[output(binary_data=True), {"name": "DIFFERENCE"}])
    header, tail = binary_parts(invoke(server, mixed, typed(mixed)))
    assert tail == SUM
    assert header["outputs"][1]["data"] == [-3, -3, -3]
    every = asked(raw_tensor("LEFT"), raw_tensor("RIGHT"), parameters={"binary_data_output": True})
    assert binary_parts(invoke(server, every + TAIL, typed(every)))[1] == SUM + struct.pack("<3i", -3, -3, -3)
    assert binary_parts(invoke(server, mixed, {"Content-Type": "application/json"}))[1] == SUM


SIZES = ("x", "", "-1", "1.5", "0x10", str(len(BOTH + TAIL) + 1), str(2**31), str(2**63), "9" * 400)


@pytest.mark.parametrize("kind", [f"additional-string/{BINARY};json-header-size={len(BOTH)}",
                                  *(f"{BINARY};json-header-size={size}" for size in SIZES)])  # fmt: skip
def test_c048_a_type_that_cannot_be(server: Server, kind: str) -> None:
    assert is_error(invoke(server, BOTH + TAIL, typed(BOTH, kind)), 400)
    assert server.ping() == 200


def test_c049_a_raw_tensor(server: Server, doubler: Server) -> None:
    header, tail = binary_parts(invoke(doubler, TAIL, typed(b"")))
    assert tail == struct.pack("<6i", 2, 4, 6, 8, 10, 12)
    assert header["outputs"][0]["name"] == "DOUBLE"
    assert is_error(invoke(server, TAIL, typed(b"")), 400)  # two inputs


def test_c050_other_spellings_of_the_type(server: Server) -> None:
    size = f"json-header-size={len(BOTH)}"
    for kind in (f"{BINARY}; {size}", f"{BINARY} ;{size}", f"{BINARY};{size}; charset=utf-8",
                 f"{BINARY.upper()};{size.upper()}", f"{BINARY};{size};charset=UTF-8"):  # fmt: skip
        assert outputs(invoke(server, BOTH + TAIL, typed(BOTH, kind)))["SUM"] == [5, 7, 9]


def test_c051_the_length_in_tritons_own_header(server: Server) -> None:
    headers = {"Inference-Header-Content-Length": str(len(BOTH)), "Content-Type": "application/octet-stream"}
    assert outputs(invoke(server, BOTH + TAIL, headers))["SUM"] == [5, 7, 9]
    assert is_error(invoke(server, BOTH + TAIL, {**headers, "Inference-Header-Content-Length": "x"}), 400)


def test_c052_shared_memory(server: Server) -> None:
    for body in (left(parameters=SHARED), sums(outputs=[output(**SHARED)])):
        assert is_error(invoke(server, body), 400)
        assert is_error(invoke(server, body, typed(body)), 400)


def doubled(server: Server, size: int, **headers: str) -> Answer:
    """A request of exactly `size` bytes, a tensor in binary, whose answer is as large and is checked."""
    shape, fill = [1, (size - 200) // 4], 4 * ((size - 200) // 4)
    header = asked(raw_tensor("NUMBER", fill, shape), parameters={"binary_data_output": True})
    header += b" " * (size - fill - len(header))
    answer = invoke(server, header + struct.pack("<i", 3) * shape[1], typed(header, **headers))
    if answer.status == 200:
        described, tail = binary_parts(answer)
        assert described["outputs"][0]["shape"] == shape
        assert tail == struct.pack("<i", 6) * shape[1]
    return answer


def test_c029_25_mb_and_not_a_byte_more(server: Server, doubler: Server) -> None:
    assert doubled(doubler, 25 * MIB).status == 200
    assert is_error(doubled(doubler, 25 * MIB + 1), 413)
    long = "x" * (25 * MIB - len(sums(id="")))
    assert invoke(server, sums(id=long)).json["id"] == long
    assert is_error(invoke(server, sums(id=long + "x")), 413)


def test_c029_100_mb_in_a_batch_transform(doubling: Path) -> None:
    with Server(doubling, SAGEMAKER_BATCH="true") as batch:
        batch.wait_until_ready()
        assert doubled(batch, 100 * MIB).status == 200
        assert is_error(doubled(batch, 100 * MIB + 1), 413)


def test_c029_c090_an_asynchronous_call_under_raised_limits(doubling: Path) -> None:
    """Larger than Triton itself may take; the type of the answer, which is kept beside it, tells how to read it."""
    limits = {"SERVE_MAX_BODY_BYTES": str(2**30), "SERVE_TIMEOUT_SECONDS": "3600"}
    with Server(doubling, **limits) as asynchronous:
        asynchronous.wait_until_ready()
        assert doubled(asynchronous, 64 * MIB + 1024, **{f"{AMZN}Inference-Id": "async-1"}).status == 200


def test_c028_a_stream_may_last_longer_than_a_request(tmp_path: Path) -> None:
    words_model(tmp_path)
    settings = {"SAGEMAKER_TRITON_INFERENCE_TYPE": "generate_stream", "SERVE_TIMEOUT_SECONDS": "1"}
    with Server(tmp_path, **settings) as streaming:
        streaming.wait_until_ready()
        answer = streaming.invoke({"PROMPT": "first wait wait last"})
        assert (answer.status, b"last" in answer.body) == (200, True)
