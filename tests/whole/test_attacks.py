"""What a hostile client tries: nothing it sends ends the server, fills it, or reaches another caller's answer."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.front import read_all, read_until
from tests.support.serving import Server
from tests.support.small_models import slow_body, slow_model, words_model
from tests.whole.test_batch import peak_memory, worker_of
from tests.whole.test_http import connect, head

pytestmark = pytest.mark.e2e

BODY = json.dumps(slow_body(0, 1)).encode()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("slow")
    slow_model(path)
    with Server(path, SERVE_TIMEOUT_SECONDS="2", SERVE_MAX_IN_FLIGHT="8", SERVE_WORKERS="1") as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("words")
    words_model(path)
    with Server(path, SAGEMAKER_TRITON_INFERENCE_TYPE="generate_stream", SERVE_TIMEOUT_SECONDS="2") as server:
        server.wait_until_ready()
        yield server


def with_shape(shape: str, extra: str = "") -> bytes:
    return b'{"inputs":[{"name":"X","datatype":"FP32","shape":%b,"data":[]%b}]}' % (shape.encode(), extra.encode())


@pytest.mark.parametrize(
    "body",
    [
        with_shape("[18446744073709551615,0]"),
        with_shape("[0,18446744073709551615]"),
        with_shape("[0,4611686018427387904]"),
        with_shape("[1,4611686018427387904]"),
        with_shape("[1099511627776,3]"),
        with_shape("[0,0]"),
        with_shape("[1]", ',"shape":[9223372036854775807]'),
        with_shape("[1]", ',"sh\\u0061pe":[9223372036854775807]'),
        BODY[:-1] + b',"outputs":[{"name":"Y","parameters":{"classification":2}}]}',
        b'{"inputs":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"inputs":[' + b'{"shape":[0]},' * 100_000 + b'{"shape":[0]}]}',
    ],
    ids=lambda body: body[:60].decode(),
)
def test_no_body_ends_triton(slow: Server, body: bytes) -> None:
    assert slow.invoke(body).status == 400
    assert slow.invoke(BODY).status == 200


@pytest.mark.parametrize("nest", ["[", '{"a":'])
def test_no_generate_body_ends_triton(words: Server, nest: str) -> None:
    deep = nest * 200_000
    for field in ("PROMPT", "other"):
        answer = words.invoke(f'{{"{field}": {deep}'.encode())
        assert answer.status == 400
    assert words.invoke({"PROMPT": "one"}).status == 200


def test_places_come_back_after_deadlines(slow: Server) -> None:
    """Eight places, eight requests that take longer than they may; later all places are free."""
    clients = [connect(slow) for _ in range(8)]
    body = json.dumps(slow_body(0.8, 0)).encode()
    for client in clients:
        client.sendall(head(len(body)) + body)
    statuses = [client.recv(4096).split()[1] for client in clients]
    assert b"504" in statuses
    time.sleep(5.5)
    for client in clients:  # the same connections go on, and nobody gets the late answer of another request
        client.sendall(head(len(BODY)) + BODY)
        answer = read_until(client, b'"data":[1.0]')
        assert answer.count(b"HTTP/1.1") == 1
        client.close()


def test_a_late_stream_does_not_answer_the_next_request(words: Server) -> None:
    body = json.dumps({"PROMPT": "wait wait wait SECRET"}).encode()
    with connect(words) as connection:
        connection.sendall(head(len(body)) + body)
        # The first word comes after a second; the deadline breaks only what has not begun.
        read_until(connection, b"wait")
    slow_start = json.dumps({"PROMPT": "wait"}).encode()
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connect(words)) for _ in range(6)]
        for client in busy:
            client.sendall(head(len(slow_start)) + slow_start)
        for client in busy[-2:]:
            answer = client.recv(4096)
            if b" 504 " in answer.split(b"\r\n")[0]:
                client.sendall(b"GET /execution-parameters HTTP/1.1\r\nHost: x\r\n\r\n")
                time.sleep(5)
                got = read_until(client, b"BatchStrategy")
                assert got.startswith(b"HTTP/1.1 200 OK")
                assert got.count(b"HTTP/1.1") == 1
                return
    pytest.fail("no request was late")


def test_trailers_are_bounded_and_change_nothing(slow: Server) -> None:
    chunked = head(None, "Transfer-Encoding: chunked", "Connection: close") + b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    with connect(slow) as connection:
        connection.sendall(chunked + b"Content-Encoding: gzip\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 OK")
    with connect(slow) as connection:
        connection.sendall(chunked)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(50):
                connection.sendall(b"X: " + b"y" * 10_000 + b"\r\n")
        assert connection.recv(100).split()[1] in (b"400", b"431")


def test_half_a_request_behind_two_others_is_read_on(slow: Server) -> None:
    body = json.dumps(slow_body(0.5, 0)).encode()
    with connect(slow) as connection:
        connection.sendall(head(len(body)) + body)
        time.sleep(0.2)
        connection.sendall(head(len(BODY)) + BODY + head(len(BODY), "Connection: close"))
        time.sleep(1)
        connection.sendall(BODY)
        assert read_all(connection).count(b"HTTP/1.1 200 OK") == 3


def test_a_client_that_reads_nothing_fills_nothing(slow: Server) -> None:
    """Two thousand requests for a large page on ten connections; none of the pages is read."""
    worker = worker_of(slow)
    before = peak_memory(worker)
    page = slow.request("GET", "/openapi.json").body
    clients = []
    for _ in range(10):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        client.connect(("127.0.0.1", slow.port))
        with contextlib.suppress(TimeoutError):
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        clients.append(client)
    time.sleep(3)
    assert slow.invoke(BODY).status == 200
    assert peak_memory(worker) - before < 1000 * len(page)
    assert peak_memory(worker) - before < 100_000_000
    for client in clients:
        client.close()


def test_unfinished_bodies_take_bounded_memory(tmp_path: Path) -> None:
    """Sixty clients that each send 20 MB and not the last byte: beyond 512 MB they are turned away."""
    slow_model(tmp_path)
    with Server(tmp_path, SERVE_WORKERS="1") as server, contextlib.ExitStack() as stack:
        server.wait_until_ready()
        size = 20_000_000
        turned_away = 0
        for _ in range(40):
            client = stack.enter_context(connect(server))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(head(size + 1) + b" " * size)
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                turned_away += client.recv(100).startswith(b"HTTP/1.1 503 ")
        assert turned_away > 5
        assert server.invoke(BODY).status == 200  # there is room for small ones
        assert server.ping() == 200
        assert peak_memory(worker_of(server)) < 1_000_000_000


def test_nothing_of_a_caller_begins_a_log_line(slow: Server) -> None:
    with connect(slow) as connection:
        connection.sendall(b"GET /nope%0d%0aserve:%20forged HTTP/1.1\r\nConnection: close\r\n\r\n")
        read_all(connection)
    assert not re.search(r"^serve: forged", slow.log.read_text(), re.MULTILINE)
