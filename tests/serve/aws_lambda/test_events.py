"""The translation of events and answers, without a server."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from serve.aws_lambda.events import MAX_RESULT_BYTES, Call, DirectFailure, call_of, failure_of, is_http, result_of
from serve.errors import BadRequest, Unavailable
from tests.serve.aws_lambda.runtime_api import http_event

JSON = [("Content-Type", "application/json")]


@pytest.mark.parametrize(
    "event", [{"user_id": "u1", "k": 3}, [{"user_id": "u1"}], "text", 7, None, {"version": "2.0"}, {"inputs": []}]
)
def test_a_direct_payload_is_the_body_of_an_invocation(event: Any) -> None:
    assert not is_http(event)
    call = call_of(event)
    assert (call.method, call.target, json.loads(call.body)) == ("POST", "/invocations", event)
    assert call.headers == {"content-type": b"application/json", "accept": b"application/json"}


def test_an_http_event_is_its_request() -> None:
    event = http_event("POST", "/invocations", '{"user_id":"é"}', rawQueryString="a=1&b=%20", cookies=["c=1", "d=2"])
    event["headers"]["X-Amzn-SageMaker-Inference-Id"] = "ü"
    method, target, headers, body = call_of(event)
    assert (method, target, body) == ("POST", "/invocations?a=1&b=%20", '{"user_id":"é"}'.encode())
    assert headers["cookie"] == b"c=1; d=2"
    assert headers["x-amzn-sagemaker-inference-id"] == "ü".encode()
    assert "content-length" not in headers  # of the text, and not of its bytes


@pytest.mark.parametrize(
    ("stage", "raw", "target"),
    [
        ("$default", "/ping", "/ping"),
        ("prod", "/prod/ping", "/ping"),
        ("prod", "/production/ping", "/production/ping"),
        ("$default", "/models/a b/invoke", "/models/a%20b/invoke"),
        ("$default", "/models/a%20b/invoke", "/models/a%20b/invoke"),
        ("$default", "/models/é", "/models/%C3%A9"),
    ],
)
def test_the_path(stage: str, raw: str, target: str) -> None:
    event = http_event("GET", raw)
    event["requestContext"]["stage"] = stage
    assert call_of(event) == Call("GET", target, call_of(event).headers, b"")


def test_a_body_in_base64() -> None:
    event = http_event("POST", "/invocations", base64.b64encode(b"\x93NUMPY\xff").decode(), isBase64Encoded=True)
    assert call_of(event).body == b"\x93NUMPY\xff"
    with pytest.raises(BadRequest, match="not base64"):
        call_of(event | {"body": "ü"})


def test_a_text_is_a_text_and_all_else_is_base64() -> None:
    event = http_event("GET", "/ping")
    text = result_of(event, 200, [*JSON, ("Connection", "close"), ("Content-Length", "4")], '"é"'.encode())
    assert text == {
        "statusCode": 200, "headers": {"content-type": "application/json"}, "body": '"é"', "isBase64Encoded": False
    }  # fmt: skip
    binary = result_of(event, 201, [("Vary", "a"), ("vary", "b")], b"\x93\xff")
    assert (binary["statusCode"], binary["headers"], binary["isBase64Encoded"]) == (201, {"vary": "a, b"}, True)
    assert base64.b64decode(binary["body"]) == b"\x93\xff"


def test_an_error_of_a_direct_payload_has_its_code_and_message() -> None:
    assert result_of({}, 200, JSON, b'{"score": 0.1}') == {"score": 0.1}
    for status, body, code in (
        (400, b'{"error": "why", "code": "bad_request"}', "bad_request"),
        (404, b'{"error": "why", "code": "unknown_model"}', "unknown_model"),
        (400, b'{"error": "why"}', "bad_request"),  # in the words of Triton
        (500, b'{"error": "why"}', "model_failed"),
    ):
        with pytest.raises(DirectFailure, match=r"^why$") as raised:
            result_of({}, status, JSON, body)
        assert raised.value.code == code
    with pytest.raises(DirectFailure, match=r"^gone$") as raised:
        failure_of({}, Unavailable("gone"))
    assert raised.value.code == "unavailable"


def test_an_http_event_that_fails_has_the_body_of_other_errors() -> None:
    result = failure_of(http_event("GET", "/ping"), Unavailable("gone"))
    assert (result["statusCode"], json.loads(result["body"])) == (503, {"error": "gone", "code": "unavailable"})


@pytest.mark.parametrize("more", [0, 1])
def test_a_result_may_have_lambdas_limit_and_no_more(more: int) -> None:
    event = http_event("GET", "/ping")
    empty = len(json.dumps(result_of(event, 200, JSON, b"")))
    result = result_of(event, 200, JSON, b"x" * (MAX_RESULT_BYTES - empty + more))
    assert result["statusCode"] == (413 if more else 200)
    direct = json.dumps("x" * (MAX_RESULT_BYTES - 2 + more)).encode()
    if not more:
        assert json.dumps(result_of({}, 200, JSON, direct)).encode() == direct
        return
    assert json.loads(result["body"])["code"] == "body_too_large"
    with pytest.raises(DirectFailure, match="6,291,557 bytes, and Lambda's limit is 6,291,556"):
        result_of({}, 200, JSON, direct)
