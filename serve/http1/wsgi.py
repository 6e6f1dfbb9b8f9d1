"""Calls a WSGI application, such as Flask's, with one whole request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from serve.http1.request import Headers

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def call(
    app: WsgiApp, method: str, path: bytes, query: bytes, headers: dict[bytes, bytes], body: bytes
) -> tuple[int, Headers, bytes]:
    """Status, headers and body of the application's answer (PEP 3333); blocks as long as the application does.

    For HEAD the application is called with GET: the length in the head must be that of GET's body.
    """
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET" if method == "HEAD" else method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": "serve",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "CONTENT_LENGTH": str(len(body)),
    }
    for name, value in headers.items():
        key = name.decode("latin-1").upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value.decode("latin-1")
        elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):  # the body is whole
            environ[f"HTTP_{key}"] = value.decode("latin-1")
    begun: list[Any] = []

    def start_response(status: str, answered: list[tuple[str, str]], exc_info: object = None) -> None:
        begun[:] = [int(status.split()[0]), answered]

    parts = app(environ, start_response)
    answer = b"".join(parts)
    if hasattr(parts, "close"):
        parts.close()
    status, answered = begun
    return (
        status,
        [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in answered if n.lower() != "content-length"],
        answer,
    )
