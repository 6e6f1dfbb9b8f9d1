"""Answers in parts: Triton's generate extension behind /invocations (CONTRACT C60-C63, C93)."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Server
from tests.support.small_models import words_model

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words")
    words_model(path)
    return path


@pytest.fixture(scope="module")
def streaming(words: Path) -> Iterator[Server]:
    with Server(words, SAGEMAKER_TRITON_INFERENCE_TYPE="generate_stream") as server:
        server.wait_until_ready()
        yield server


def events(text: bytes) -> list[dict[str, object]]:
    parts = text.decode().split("\n\n")
    assert parts.pop() == ""
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_c061_generate_answers_with_one_document(words: Path) -> None:
    with Server(words, SAGEMAKER_TRITON_INFERENCE_TYPE="generate") as server:
        server.wait_until_ready()
        answer = server.invoke({"PROMPT": "hello", "STREAM": False})
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json["TEXT"] == "hello"
        assert server.invoke({"PROMPT": "one two"}).status >= 400  # generate is for one answer
        wrong = server.invoke(b"{")
        assert (wrong.status, "error" in wrong.json) == (400, True)


def test_c062_generate_stream_answers_with_events_in_chunks(streaming: Server) -> None:
    answer = streaming.invoke({"PROMPT": "one two three", "STREAM": True})
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert [event["TEXT"] for event in events(answer.body)] == ["one", "two", "three"]


@pytest.mark.clock
def test_c093_the_first_event_comes_before_the_last_is_made(streaming: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", streaming.port, timeout=30)
    connection.request("POST", "/invocations", json.dumps({"PROMPT": "first wait wait last"}))
    response = connection.getresponse()
    began = time.monotonic()
    assert json.loads(response.readline().removeprefix(b"data: "))["TEXT"] == "first"
    first = time.monotonic() - began
    rest = response.read()
    assert b"last" in rest
    assert time.monotonic() - began > first + 1  # two seconds of waiting lie between them
    connection.close()


def test_c062_an_error_before_the_first_answer_is_the_status(streaming: Server) -> None:
    answer = streaming.invoke({"PROMPT": "fail"})
    assert (answer.status, "failed on demand" in answer.json["error"]) == (500, True)
    refused = streaming.invoke({"PROMPT": "refuse"})  # by the word for the code, which Triton itself leaves out
    assert (refused.status, "no such word" in refused.json["error"]) == (400, True)


def test_c062_a_later_error_is_an_event(streaming: Server) -> None:
    answer = streaming.invoke({"PROMPT": "one fail"})
    assert answer.status == 200
    assert [next(iter(event)) for event in events(answer.body)][-1] == "error"


def test_c043_custom_attributes_come_back_with_a_stream(streaming: Server) -> None:
    answer = streaming.invoke({"PROMPT": "one"}, {"X-Amzn-SageMaker-Custom-Attributes": "trace=17"})
    assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "trace=17"


def test_a_client_that_leaves_ends_the_stream(streaming: Server) -> None:
    """The model looks whether it is cancelled before each of 300 words, a second each, and the next caller waits."""
    connection = http.client.HTTPConnection("127.0.0.1", streaming.port, timeout=30)
    connection.request("POST", "/invocations", json.dumps({"PROMPT": "first " + "wait " * 300}))
    connection.getresponse().readline()
    connection.close()
    assert streaming.invoke({"PROMPT": "next"}).status == 200  # within the 60 s that the client waits


def test_c063_a_decoupled_model_on_plain_infer_is_501(words: Path) -> None:
    with Server(words) as server:
        server.wait_until_ready()
        body = {"inputs": [{"name": "PROMPT", "datatype": "BYTES", "shape": [1], "data": ["one"]}]}
        answer = server.invoke(body)
        assert (answer.status, "error" in answer.json) == (501, True)


def test_c060_another_inference_type_is_refused(words: Path) -> None:
    with Server(words, SAGEMAKER_TRITON_INFERENCE_TYPE="chat") as server:
        assert server.process.wait(120) == 1
        assert "Invalid SAGEMAKER_TRITON_INFERENCE_TYPE" in server.log.read_text()
