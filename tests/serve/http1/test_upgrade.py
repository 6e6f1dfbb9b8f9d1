"""A request that asks for another protocol is answered as if it had not asked."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.serve.http1.apps import App
from tests.support.front import Front, read_until

BODY = b'{"user_id": "u17", "k": 3}'
CONTENT_LENGTH = (b"Content-Length: %d\r\n" % len(BODY), BODY)
CHUNKED = (b"Transfer-Encoding: chunked\r\n", b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:]))
EMPTY = (b"", b"")
UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n",
    "websocket": b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: keep-alive, upgrade\r\n",
    "tls": b"connection: upgrade\r\nupgrade: TLS/1.2\r\n",
}
LAST = b"GET /last HTTP/1.1\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with Front(App()) as running:
        yield running


def answers(front: Front, *segments: bytes) -> bytes:
    """What comes back, without the time of day."""
    return re.sub(rb"date: [^\r]*\r\n", b"", front.exchange(*segments))


@pytest.mark.parametrize("framing", [CONTENT_LENGTH, CHUNKED, EMPTY], ids=["length", "chunked", "empty"])
@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("method", [b"POST", b"GET"])
def test_the_answer_is_that_without_upgrade(
    front: Front, upgrade: bytes, framing: tuple[bytes, bytes], method: bytes
) -> None:
    header, body = framing
    start = b"%b /x/y?q=1 HTTP/1.1\r\nHost: x\r\n" % method
    wanted = answers(front, start + header + b"\r\n" + body + LAST)
    assert wanted.count(b"200 OK") == 2
    head = start + upgrade + header + b"\r\n"
    assert answers(front, head + body + LAST) == wanted
    assert answers(front, head, body + LAST) == wanted
    assert answers(front, head[:-1], head[-1:] + body[:1], body[1:] + LAST) == wanted
    assert answers(front, head + body[:7], body[7:] + LAST[:9], LAST[9:]) == wanted
    twice = answers(front, (head + body) * 2 + LAST)
    assert twice.count(b"200 OK") == 3


def test_a_connection_that_is_to_be_closed_is_closed(front: Front) -> None:
    head = b"POST /x HTTP/1.1\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n"
    assert answers(front, head, b"ab").endswith(b"connection: close\r\n\r\nPOST /x? ab")
    head = b"POST /x HTTP/1.1\r\nConnection: close\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n"
    assert answers(front, head, b"ab").endswith(b"connection: close\r\n\r\nPOST /x? ab")
    head = b"POST /x HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n"
    assert answers(front, head, b"ab").endswith(b"connection: close\r\n\r\nPOST /x? ab")


def test_100_continue_comes_once(front: Front) -> None:
    with front.connect() as connection:
        connection.sendall(
            b"POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + UPGRADES["h2c"] + b"\r\n"
        )
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ab")
        assert read_until(connection, b"ab").startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_body_is_never_read_as_a_request(front: Front) -> None:
    inner = b"GET /smuggled HTTP/1.1\r\n\r\n"
    head = b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n" % len(inner) + UPGRADES["h2c"] + b"\r\n"
    answered = answers(front, head, inner, LAST)
    assert answered.count(b"HTTP/1.1 200 OK") == 2
    assert b"POST /x? GET /smuggled HTTP/1.1\r\n\r\n" in answered


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
    ],
)
def test_a_length_that_is_not_clear_is_refused_as_ever(front: Front, framing: bytes) -> None:
    for upgrade in (b"", UPGRADES["h2c"]):
        answered = answers(front, b"POST /x HTTP/1.1\r\n" + upgrade + framing + b"\r\n0\r\n\r\n")
        assert answered.startswith(b"HTTP/1.1 400 ")
        assert answered.count(b"HTTP/1.1") == 1


def test_a_tunnel_is_answered_and_closed(front: Front) -> None:
    answered = answers(front, b"CONNECT other:443 HTTP/1.1\r\nHost: other\r\n\r\n\x16\x03\x01", b"\x16\x03\x01")
    assert answered.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answered


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_with_http2(front: Front) -> None:
    url = f"http://127.0.0.1:{front.port}/x"
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--http2", "--data-binary", "@-", url, url]
    done = subprocess.run(command, input=BODY * 1000, capture_output=True, check=True, timeout=60)
    assert done.stdout == (b"POST /x? " + BODY * 1000) * 2
