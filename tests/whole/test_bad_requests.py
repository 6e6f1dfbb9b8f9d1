"""Requests that are wrong, hostile, too large or broken off, on the real servers: each costs only itself."""

from __future__ import annotations

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ncf.training.run_directory import Run
from tests.support.serving import Server, children_of
from tests.whole.conftest import FOOD, kserve, offline_scores

pytestmark = [pytest.mark.e2e, pytest.mark.core]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is empty"),
        (b"{", 400, "the body is not JSON"),
        (b'{"inputs": [', 400, "the body is not JSON"),
        (b"\xff\xfe", 400, "the body is not UTF-8"),
        (b"[]", 400, "the body is a JSON list"),
        (b'{"model": "nope", "user_id": "u1"}', 404, "'nope', which is not served here"),
        (b'{"model": "../ncf_food_model", "user_id": "u1"}', 404, "not served here"),
        (b'{"model": "ncf_food_model_query", "user_id": "u1"}', 400, "is no recommender"),
        (b'{"model": "tiny", "user_id": "u1", "k": 0}', 400, "k is 0"),
        (b'{"model": "tiny", "user_id": "u1", "k": -1}', 400, "k is -1"),
        (b'{"model": "tiny", "user_id": "u1", "k": 101}', 400, "k is 101; tiny returns at most 100"),
        (b'{"model": "ncf_food_model", "user_id": "u1", "k": 101}', 400, "returns at most 100"),
        (b'{"model": "ncf_food_model", "user": "u1"}', 400, "did you mean 'user_id'"),
    ],
)
def test_a_bad_request_says_what_is_wrong(server: Server, body: bytes, status: int, message: str) -> None:
    answer = server.invoke(body, {"X-Amzn-SageMaker-Target-Model": "tiny"})
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert message in answer.json["error"]


def test_c035_tritons_own_refusals_come_through(server: Server) -> None:
    wrong = kserve([1], [1])
    wrong["inputs"][0]["datatype"] = "FP32"
    missing = {"inputs": kserve([1], [1])["inputs"][:1]}
    for document in (wrong, missing, kserve([1], [1], outputs=[{"name": "nope"}])):
        answer = server.invoke(document, {"X-Amzn-SageMaker-Target-Model": FOOD})
        assert answer.status == 400
        assert answer.json["error"]


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2**62, 1], [1]),
        ([2**31, 1], [1]),
        ([2**27, 1], [1]),
        ([3, 1], [1]),
        ([-1, 1], [1]),
        (["1", 1], [1]),
        ([1, 1], ["x"]),
        ([1, 1], [[[[1, 2]]]]),
        (None, [1]),
        ({}, [1]),
        ([2**200, 1], [1]),
    ],
)
def test_a_shape_or_data_that_cannot_be_is_400_and_hurts_nobody(server: Server, shape: Any, data: Any) -> None:
    triton = children_of(server.process.pid)["tritonserver"]
    document = kserve([1], [1])
    document["inputs"][0].update(shape=shape, data=data)
    answer = server.invoke(document, {"X-Amzn-SageMaker-Target-Model": FOOD})
    assert answer.status == 400
    assert answer.json["error"]
    assert children_of(server.process.pid)["tritonserver"] == triton
    assert server.ping() == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"user_id": ' + b"[" * 1000 + b"]" * 1000 + b"}",
        b'{"model": ' + b"[" * 1000 + b"]" * 1000 + b', "user_id": 1}',
        b'{"model": "tiny", "inputs": [' + b"[" * 300 + b"]" * 300 + b"]}",
        b'{"model": "tiny", "inputs": {}}',
        b'{"model": "tiny", "inputs": [1]}',
        b'{"model": "tiny", "id": 7, "inputs": [{"name": 5, "shape": [1, 1], "datatype": "INT64", "data": [1]}]}',
        b'{"' + b"k" * 20_000_000 + b'": 1}',
        b'{"user_id": "' + b"u" * 20_000_000 + b'"}',
        b'{"model": "' + b"m" * 20_000_000 + b'"}',
        b'{"user_id": 99999999999999999999999999}',
        b'{"user_id": "\\ud800"}',
    ],
)
def test_hostile_bodies_get_a_short_answer(server: Server, body: bytes) -> None:
    answer = server.invoke(body, {"X-Amzn-SageMaker-Target-Model": "tiny"})
    assert answer.status in (200, 400, 404)  # 200: a user with a very long or large id is only an unknown user
    assert len(answer.body) < 2000
    assert "Traceback" not in server.log.read_text()


def test_c034_other_methods_are_405_and_other_paths_404(server: Server) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = server.request(method, "/invocations")
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"
        assert "use POST" in answer.json["error"]
    for path in ("/", "/v2/health/ready", "/metrics/x", "/invocations/x", "/modelsfoo"):
        answer = server.request("GET", path)
        assert answer.status == 404
        assert "there is no such path" in answer.json["error"]
    assert server.request("PUT", "/models").status == 405


def test_a_body_of_30_mb_is_413_declared_or_chunked(server: Server) -> None:
    big = b" " * (30 * 2**20)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Length", str(len(big)))
    connection.endheaders()
    answer = connection.getresponse()  # the declared length is enough: not a byte of the body was sent
    assert answer.status == 413
    assert "at most 26,214,400 are taken" in json.loads(answer.read())["error"]
    connection.close()

    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        raw.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        try:
            for _ in range(26):
                raw.sendall(chunk)
        except OSError:
            pass  # refused before we were done sending
        assert raw.recv(100).startswith(b"HTTP/1.1 413")
    assert server.ping() == 200


def test_a_body_just_below_the_limit_is_taken(server: Server) -> None:
    body = json.dumps({"model": FOOD, "user_id": "u1"}).encode()
    answer = server.invoke(body + b" " * (25 * 2**20 - len(body)))
    assert answer.status == 200


def test_a_broken_model_costs_only_itself(server: Server) -> None:
    answer = server.invoke({"model": "broken", "user_id": "user 0"})
    assert answer.status == 503
    assert "broken is not ready" in answer.json["error"]
    assert server.ping() == 200
    assert server.invoke({"model": "tiny", "user_id": "user 0"}).status == 200


def test_one_callers_index_never_reaches_another_caller(server: Server, food_run: Run) -> None:
    """Rows of many callers share one forward; indices far outside the data are among them all the time."""
    headers = {"X-Amzn-SageMaker-Target-Model": FOOD}
    expected = offline_scores(food_run, [3], [8])[0]
    bad = [2**63 - 1, -(2**63), -1, 10**9]

    def ask(number: int) -> tuple[int, float]:
        wild = number % 2
        document = kserve([bad[number % 4] if wild else 3], [bad[(number + 1) % 4] if wild else 8])
        answer = server.invoke(document, headers)
        return answer.status, answer.json["outputs"][0]["data"][0]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(400)))
    assert {status for status, _ in answers} == {200}
    assert [score for _, score in answers[::2]] == pytest.approx([expected] * 200, abs=1e-5)


def test_a_client_that_goes_away_hurts_nobody(server: Server) -> None:
    body = json.dumps({"model": FOOD, "user_id": "u1"}).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    logged = len(server.log.read_text())
    for cut in (head + body, head + body[:5], head[:20]):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
                raw.sendall(cut)
    assert server.invoke({"model": FOOD, "user_id": "u1"}).status == 200
    assert server.log.read_text()[logged:] == ""
