from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serve.http1.wsgi import call


class Body:
    """An answer in parts, which the caller must close."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from (b"one ", b"two")

    def close(self) -> None:
        self.closed = True


def test_the_application_gets_the_request_and_its_answer_comes_back() -> None:
    environs: list[dict[str, Any]] = []
    body = Body()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Body:
        environs.append(environ)
        start_response("418 I'm a teapot", [("Content-Type", "text/plain"), ("Content-Length", "7"), ("X-Y", "z")])
        return body

    headers = {b"content-type": b"a/b", b"content-length": b"99", b"transfer-encoding": b"chunked", b"x-y": b"\xe9"}
    status, answered, answer = call(app, "POST", b"/a%20b", b"c=%20", headers, b"body")
    assert (status, answer) == (418, b"one two")
    assert answered == [(b"content-type", b"text/plain"), (b"x-y", b"z")]
    assert body.closed
    (environ,) = environs
    assert environ["wsgi.input"].read() == b"body"
    assert environ["REQUEST_METHOD"] == "POST"
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/a b", "c=%20")
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"], environ["HTTP_X_Y"]) == ("a/b", "4", "é")
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_for_head_the_application_makes_the_answer_to_get() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["REQUEST_METHOD"].encode()]

    assert call(app, "HEAD", b"/", b"", {}, b"") == (200, [], b"GET")


def test_an_exception_of_the_application_reaches_the_caller() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        call(app, "GET", b"/", b"", {}, b"")
