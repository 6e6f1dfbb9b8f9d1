"""One worker's application behind the real front, without a Triton."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.front import Worker, read_all


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr("serve.http1.connection.DISCARD_SECONDS", 0.5)
    with Worker(tmp_path) as running:
        yield running


@pytest.mark.parametrize("path", ["/models", "/invocations", "/models/x/invoke", "/nowhere"])
def test_a_body_that_does_not_come_in_time_leaves_nothing(worker: Worker, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n".encode()
    with ExitStack() as stack:
        clients: list[socket.socket] = [stack.enter_context(worker.connect()) for _ in range(20)]
        for client in clients:
            client.sendall(head + b"x" * 1000)
        answers = [read_all(client) for client in clients]
    assert {answer.split()[1] for answer in answers} == {b"404" if path == "/models/x/invoke" else b"408"}
    eventually(lambda: worker.num_tasks() == 0 and worker.state.body_bytes == 0)


def test_the_length_that_head_says_is_that_of_get(worker: Worker) -> None:
    for path in ("/openapi.json", "/execution-parameters", "/nowhere"):
        status, headers, body = worker.ask("GET", path)
        assert len(body) == int(headers["content-length"]) > 0
        head = worker.ask("HEAD", path)
        assert head[0] == status
        assert head[1]["content-length"] == headers["content-length"]
        assert head[2] == b""


def test_a_bug_of_the_control_plane_has_the_same_code_as_any_other(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("serve.worker.control_plane.openapi_document", broken)
    status, _, body = worker.ask("GET", "/openapi.json")
    assert (status, json.loads(body)["code"]) == (500, "internal")
    assert "a bug" in caplog.text
    monkeypatch.setattr(worker.application.data_plane, "invoke", broken)
    status, _, other = worker.ask("POST", "/invocations", b"{}")
    assert (status, other) == (500, body)


def test_both_planes_answer_an_error_in_the_same_form(worker: Worker) -> None:
    for method, path, allowed in (("POST", "/models", "GET"), ("GET", "/invocations", "POST")):
        status, headers, body = worker.ask(method, path, b"{}", "X-Amzn-SageMaker-Custom-Attributes: a=b")
        assert (status, headers["allow"], json.loads(body)["code"]) == (405, allowed, "method_not_allowed")
        assert headers["x-amzn-sagemaker-custom-attributes"] == "a=b"
        assert headers["content-type"] == "application/json"


def test_no_hint_names_a_path_that_is_405(worker: Worker) -> None:
    for method, path in (("POST", "/models/x/invoke"), ("GET", "/nowhere")):
        status, _, body = worker.ask(method, path, b"{}")
        assert status == 404
        assert "/invocations" in json.loads(body)["error"]
        assert "POST /models" not in json.loads(body)["error"]


def test_inference_ids_of_any_length_cost_no_answer(worker: Worker) -> None:
    name = "X-Amzn-SageMaker-Inference-Id"
    body = json.dumps({"requests": [{"user_id": "u"}] * 400, "model": "none"}).encode()
    for given, comes_back in (("a" * 1024, True), ("a" * 1025, False), ("b" * 60_000, False), ("caf\xe9", False)):
        head = f"POST /invocations HTTP/1.1\r\nConnection: close\r\n{name}: {given}\r\nContent-Length: {len(body)}\r\n"
        head, _, answer = worker.exchange(head.encode("latin-1") + b"\r\n" + body).partition(b"\r\n\r\n")
        ids = {each["request_id"] for each in json.loads(answer)["responses"]}
        assert (ids == {given}) is comes_back
        assert (given.encode("latin-1") in head) is comes_back
        assert len(ids) == 1
        assert all(0 < len(each) <= 1024 for each in ids)
