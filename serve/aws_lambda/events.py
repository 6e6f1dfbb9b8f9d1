"""Events of Lambda as HTTP requests, and HTTP answers as results of Lambda.

An event is either an HTTP request, as function URLs and API Gateway's HTTP APIs send it (payload format 2.0), or a
direct payload: any other JSON value, which is the body of a request to /invocations.
"""

from __future__ import annotations

import base64
import binascii
import json
import string
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

from serve.errors import BadRequest, BodyTooLarge, ServeError, TritonFailed

MAX_RESULT_BYTES = 6_291_556  # of the JSON of a result; Lambda refuses larger ones
# They describe a connection, or a body in its form on that connection, and not the message.
OF_THE_CONNECTION = {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


class Call(NamedTuple):
    """A request to `serve`."""

    method: str
    target: str
    headers: dict[str, bytes]
    body: bytes


class DirectFailure(Exception):
    """The answer to a direct payload is an error; `code` is that of serve/errors.py."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_http(event: Any) -> bool:
    """Whether an event is an HTTP request in payload format 2.0."""
    return isinstance(event, dict) and event.get("version") == "2.0" and "http" in event.get("requestContext", ())


def call_of(event: Any) -> Call:
    """The request that an event means. Raises BadRequest."""
    if not is_http(event):
        headers = {"content-type": b"application/json", "accept": b"application/json"}
        return Call("POST", "/invocations", headers, json.dumps(event).encode())
    context = event["requestContext"]
    path = event["rawPath"]
    if path.startswith(f"/{context.get('stage')}/"):  # the path of an HTTP API begins with its stage if that has a name
        path = path[len(context["stage"]) + 1 :]
    if event.get("rawQueryString"):
        path += f"?{event['rawQueryString']}"
    headers = {
        name.lower(): value.encode()
        for name, value in event["headers"].items()
        if name.lower() not in OF_THE_CONNECTION
    }
    if event.get("cookies"):
        headers["cookie"] = "; ".join(event["cookies"]).encode()
    body = (event.get("body") or "").encode()
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise BadRequest(f"the event's body is not base64: {error}") from error
    # API Gateway has decoded the path; what is still encoded in a function URL's path stays as it is.
    return Call(context["http"]["method"], quote(path, safe=string.punctuation), headers, body)


def result_of(event: Any, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Any:
    """The result for an event that `serve` has answered. Raises DirectFailure."""
    if is_http(event):
        result: Any = _http_result(status, headers, body)
    else:
        result = json.loads(body)
        if status >= 400:  # Triton's own errors have no code
            code = result.get("code", BadRequest.code if status < 500 else TritonFailed.code)
            raise DirectFailure(code, result["error"])
    size = len(json.dumps(result))
    if size <= MAX_RESULT_BYTES:
        return result
    limit = f"Lambda's limit is {MAX_RESULT_BYTES:,} bytes"
    return failure_of(
        event, BodyTooLarge(f"the answer is a result of {size:,} bytes, and {limit}; ask for less at once")
    )


def failure_of(event: Any, failure: ServeError) -> Any:
    """The result for an event that `serve` has not answered. Raises DirectFailure."""
    if not is_http(event):
        raise DirectFailure(failure.code, str(failure))
    body = json.dumps({"error": str(failure), "code": failure.code}).encode()
    return _http_result(failure.status, [("content-type", "application/json")], body)


def _http_result(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> dict[str, Any]:
    """A body in UTF-8 is sent as text, which keeps every byte; any other body is sent in base64."""
    kept: dict[str, str] = {}
    for name, value in ((name.lower(), value) for name, value in headers):
        if name not in OF_THE_CONNECTION:
            kept[name] = f"{kept[name]}, {value}" if name in kept else value
    try:
        text, encoded = body.decode(), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    return {"statusCode": status, "headers": kept, "body": text, "isBase64Encoded": encoded}
