"""A request's answer depends on the bytes of the request alone, never on how the network cuts them into segments."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.one_worker import OneWorker, comparable, request_bytes

JSON, LINES, CSV, NPY = "application/json", "application/jsonlines", "text/csv", "application/x-npy"
BINARY = "application/vnd.sagemaker-triton.binary+json"


class Running:
    """One worker, and the event loop that it runs on between the calls."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.worker = OneWorker(folder, **environment)
        self.loop.run_until_complete(self.worker.start())

    def close(self) -> None:
        self.loop.run_until_complete(self.worker.stop())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def send(self, segments: list[bytes]) -> tuple[int, dict[bytes, bytes], bytes]:
        return comparable(self.loop.run_until_complete(self.worker.exchange(segments)))

    def ask(self, body: bytes, content_type: str, **headers: str) -> tuple[int, dict[bytes, bytes], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send([request_bytes(body, {"Content-Type": content_type, **named})])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    worker = Running(tmp_path_factory.mktemp("worker"))
    yield worker
    worker.close()


def cut(request: bytes, places: list[int]) -> list[bytes]:
    places = sorted({0, *(place % len(request) for place in places), len(request)})
    return [request[start:stop] for start, stop in pairwise(places)]


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


TENSOR = {"name": "X", "shape": [1], "datatype": "FP32", "data": [1]}
KSERVE = json.dumps({"inputs": [TENSOR]}).encode()
NAMED = json.dumps({"model": "plain", "inputs": [TENSOR]}).encode()
PRETTY = json.dumps({"inputs": [TENSOR]}, indent=1).encode()

# Content-Type, Accept, body and status of requests that were answered in two ways when the network cut them in two.
CASES: dict[str, tuple[str, str, bytes, int]] = {
    "pairs of a table as JSON": (CSV, JSON, b"u1,7\nu2,8\n", 200),
    "pairs of a table as lines": (CSV, LINES, b"u1,7\nu2,8\n", 200),
    "a table with a bad row": (CSV, CSV, b"u1,7\nu2\nu3,7\n", 200),
    "a table with an empty cell": (CSV, CSV, b"u1,7\n,7\nu3,7\n", 200),
    "a table as an array": (CSV, NPY, b"u1,7\nu2,8\n", 406),
    "lines as an array": (LINES, NPY, b'{"user_id": "u1"}\n{"user_id": "u2"}\n', 406),
    "lines under the type of JSON": (JSON, "*/*", b'{"user_id": "u1"}\n{"user_id": "u2"}\n', 200),
    "lines after a byte order mark": (JSON, "*/*", b'\xef\xbb\xbf{"user_id": "u1"}\n{"user_id": "u2"}\n', 200),
    "one line under the type of JSON": (JSON, "*/*", b'{"user_id": "u1"}\n \n', 200),
    "JSON over several lines": (JSON, "*/*", b'{"user_id":\n"u1"}\n', 200),
    "KServe-v2 over several lines": (LINES, "*/*", PRETTY, 200),
    "lines of KServe-v2": ("image/png", "*/*", NAMED + b"\n" + NAMED + b"\n", 200),
    "lines of an unknown type": ("image/png", "*/*", b'{"user_id": "u1"}\n{"user_id": "u2"}\n', 415),
    "a long table": (CSV, JSON, b"u1,7\n" * 594, 200),
    "a long table with a bad row": (CSV, CSV, b"u1,7\n" * 300 + b"u1\n" + b"u1,7\n" * 294, 200),
    "longer than 64 KiB": (CSV, JSON, b"u1,7\n" * 14_000, 200),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunked", [False, True])
def test_one_answer_however_the_request_is_cut(running: Running, case: str, chunked: bool) -> None:
    content_type, accept, body, status = CASES[case]
    request = request_bytes(body, {"Content-Type": content_type, "Accept": accept}, chunked)
    whole = running.send([request])
    assert whole[0] == status, whole
    start = request.index(b"\r\n\r\n") + 4
    for places in ([start], [start + 2], [start + body.find(b"\n") + 1], [start + len(body) // 2], [-1]):
        assert running.send(cut(request, places)) == whole
    assert running.send(cut(request, list(range(start, len(request), 1448)))) == whole


ids = st.sampled_from(["u1", "u2", "?", "", "é", "x" * 1100, '"', "a,b"])
record = st.one_of(
    st.fixed_dictionaries({"user_id": ids}, optional={"k": st.integers(-1, 5), "kk": st.just(1)}),
    st.fixed_dictionaries({"pairs": st.lists(st.fixed_dictionaries({"user_id": ids, "item_id": st.just(7)}))}),
    st.sampled_from(
        [{"inputs": [TENSOR]}, {"model": "plain", "inputs": [TENSOR]}, {"model": "no", "user_id": 1}, [7], 1]
    ),
)
json_line = record.map(lambda each: json.dumps(each).encode()) | st.sampled_from([b"", b" ", b"{", b'"\xff"', b"\r"])
csv_line = st.sampled_from(
    [b"u1,7", b"u2,8", b"?,7", b"u1", b"u1,7,8", b",7", b"u1,", b"", b'"u1",7', b'8,"3', b"u\xe9,7", b"u,\0", b"a\rb,1"]
)
csv_head = st.sampled_from(
    [b"", b"user_id,item_id", b"user_id", b"user_id,k", b"user_id,colour", b"\xef\xbb\xbfuser_id"]
)


@st.composite
def lines_of(draw: Any, line: st.SearchStrategy[bytes], head: st.SearchStrategy[bytes]) -> bytes:
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    lines = [each for each in (draw(head),) if each] + draw(st.lists(line, max_size=8))
    repeats = draw(st.sampled_from([1, 1, 1, 40]))
    return end.join(lines * repeats) + draw(st.sampled_from([b"", end, end * 2]))


documents = st.one_of(
    record.map(lambda each: json.dumps(each).encode()),
    record.map(lambda each: json.dumps(each, indent=1).encode()),
    st.lists(record, max_size=4).map(lambda each: json.dumps({"requests": each}).encode()),
    st.sampled_from([b"", b"{", b"[]", KSERVE, NAMED, PRETTY, b"\xef\xbb\xbf" + NAMED]),
)
arrays = st.sampled_from(
    [npy(np.array([[1, 2], [3, 99]])), npy(np.zeros((2, 2))), npy(np.ones((1, 3), int)), b"\x93NUMPY"]
)
tensors = st.sampled_from([KSERVE, KSERVE + b"\1\0\0\0", b"\0" * 16])
bodies = st.one_of(
    lines_of(json_line, st.just(b"")), lines_of(csv_line, csv_head), documents, arrays, tensors, st.binary(max_size=50)
)
types = st.sampled_from(
    [JSON, LINES, CSV, NPY, "image/png", "application/octet-stream", f"{BINARY};json-header-size={len(KSERVE)}"]
)
accepts = st.sampled_from(["*/*", JSON, LINES, CSV, NPY, "image/png", f"{NPY}, {CSV};q=0.5", "application/*"])


@settings(deadline=None, database=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(bodies, types, accepts, st.booleans(), st.booleans(), st.lists(st.integers(0, 10**6), max_size=6))
def test_any_request_has_one_answer_however_it_is_cut(
    running: Running, body: bytes, content_type: str, accept: str, packed: bool, chunked: bool, places: list[int]
) -> None:
    headers = {"Content-Type": content_type, "Accept": accept}
    if packed:
        body, headers["Content-Encoding"] = gzip.compress(body, mtime=0), "gzip"
    request = request_bytes(body, headers, chunked)
    whole = running.send([request])
    start = request.index(b"\r\n\r\n") + 4
    assert running.send(cut(request, [start, *places])) == whole
    assert running.send(cut(request, [*range(start, len(request), max(7, len(request) // 40))])) == whole
    assert running.send([request_bytes(body, headers, not chunked)]) == whole
    assert whole[0] < 500


def test_a_packed_body_is_answered_as_the_plain_one_is(running: Running) -> None:
    for body, content_type in (
        (b'{"user_id": "u1"}\n' * 5001, LINES),
        (b"u1\n" * 6000, CSV),
        (b"u1,7\n,8\n", CSV),
        (b'{"user_id": "u1"}', JSON),
    ):
        plain = running.ask(body, content_type)
        assert plain[0] == 200
        assert plain[2].count(b"\n") == body.count(b"\n")
        assert running.ask(gzip.compress(body), content_type, Content_Encoding="gzip") == plain


@pytest.mark.parametrize("lines", [100, 30_000])
def test_answers_to_lines_are_packed_for_who_takes_it(running: Running, lines: int) -> None:
    body = b"u1,7\nu2\n" * lines
    plain = running.ask(body, CSV)
    packed = running.ask(body, CSV, Accept_Encoding="gzip")
    assert packed[1][b"content-encoding"] == b"gzip"
    assert len(packed[2]) < len(plain[2]) / 4
    assert gzip.decompress(packed[2]) == plain[2]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"u1,7\n,7\nu3,7\n", ["3.0", "ERROR: line 2: user_id is empty", "13.0"]),
        (b'u1,1\nu2,"3\nu3,4\n', ["0.0", "ERROR: line 2 cannot be read", "11.5"]),
        (b'u2,"3\nu3,4\n', ["ERROR: line 1 cannot be read", "11.5"]),
        (b"u1,1\nu\xe9,1\nu2,1\n", ["0.0", "ERROR: line 2 is not UTF-8", "5.0"]),
        (b"u\xe9,1\nu2,1\n", ["ERROR: line 1 is not UTF-8", "5.0"]),
        (b"u1,1\n\nu2,1\n", ["0.0", "ERROR: line 2 is empty", "5.0"]),
        (b"\nu2,1\n", ["ERROR: line 1 is empty", "5.0"]),
        (b"u1,1,1\nu2,1\n", ["ERROR: line 1 has 3 cells and no header", "5.0"]),
        (b"user_id,item_id\nu1\nu2,1\n", ["ERROR: line 2 has 1 cells", "5.0"]),
        (b"u1,\n", ["ERROR: line 1: item_id is empty"]),
        (b"u\xe9,1\n", ["ERROR: line 1 is not UTF-8"]),
    ],
)
def test_a_line_out_for_every_line_in(running: Running, body: bytes, expected: list[str]) -> None:
    status, headers, answer = running.ask(body, CSV)
    assert (status, headers[b"content-type"]) == (200, b"text/csv")
    lines = answer.decode().splitlines()
    assert len(lines) == len(expected)
    for line, begin in zip(lines, expected, strict=True):
        assert line.strip('"').startswith(begin), line
    documents = running.ask(body, CSV, Accept=LINES)[2].splitlines()
    assert ["error" in json.loads(line) for line in documents] == [line.startswith("ERROR") for line in expected]


def test_an_id_that_would_be_repeated_without_end_is_replaced(running: Running) -> None:
    """At most 1,024 visible characters of the caller's id come back, in the header and in every line of the answer."""
    body = b'{"user_id": "u1"}\n' * 400
    for bad in ("x" * 1025, "x" * 61_000, "caf\u00e9"):
        request = request_bytes(body, {"Content-Type": LINES}).replace(b": one\r\n", b": " + bad.encode() + b"\r\n")
        status, headers, answer = running.send([request])
        assert status == 200
        assert b"x-amzn-sagemaker-inference-id" not in headers
        ids = {json.loads(line)["request_id"] for line in answer.splitlines()}
        assert len(ids) == 1
        assert len(ids.pop()) < 30
        assert len(answer) < 400 * 300
    request = request_bytes(body, {"Content-Type": LINES}).replace(b": one\r\n", b": " + b"x" * 1024 + b"\r\n")
    status, headers, answer = running.send([request])
    assert headers[b"x-amzn-sagemaker-inference-id"] == b"x" * 1024
    assert answer.count(b"x" * 1024) == 400


def test_a_place_is_given_back_however_a_request_ends(tmp_path: Path) -> None:
    running = Running(tmp_path, SERVE_MAX_IN_FLIGHT="1")
    try:
        for body, content_type, status in (
            (b'{"user_id": "u1"}', JSON, 200),
            (b'{"user_id": "u1", "k": 50}', JSON, 400),
            (b"u1,7\nu2,8\n", CSV, 200),
            (npy(np.array([[1, 2]])), NPY, 200),
            (KSERVE, JSON, 200),
            (b'{"user_id": "u1"}\n{"model": "plain", "inputs": []}\n', LINES, 200),
        ) * 2:
            assert running.ask(body, content_type)[0] == status
        places = running.worker.application.data_plane.places
        places.take("m")
        refused = running.ask(b"u1,7\nu2,8\n", CSV)
        assert (refused[0], refused[1][b"retry-after"]) == (503, b"1")
        assert b"m has 1 requests under way (SERVE_MAX_IN_FLIGHT)" in refused[2]
        places.give_back("m")
        assert running.ask(b"u1,7\nu2,8\n", CSV)[0] == 200
        assert running.worker.application.calls == {}
    finally:
        running.close()


def test_the_first_bytes_of_a_body_in_crumbs_are_gathered_in_linear_time(running: Running) -> None:
    """60,000 chunks of one byte, which come in a few segments."""
    head, _, body = request_bytes(b"", {"Content-Type": CSV}, chunked=True).partition(b"\r\n\r\n")
    crumbs = b"".join(b"1\r\n%c\r\n" % sign for sign in b"u1,7\n" * 12_000)
    began = time.process_time()
    status, _, answer = running.send([head + b"\r\n\r\n" + crumbs + body])
    assert (status, answer) == (200, b"3.0\n" * 12_000)
    assert time.process_time() - began < 10  # a sum over all chunks for each chunk would take 10^9 steps
