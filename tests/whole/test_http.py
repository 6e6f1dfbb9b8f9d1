"""The public port as odd clients meet it: slow, half-open, chunked, pipelined, too large, and gone."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.front import read_all, read_until
from tests.support.serving import Server
from tests.support.small_models import slow_body, slow_model

pytestmark = [pytest.mark.e2e, pytest.mark.core]

LIMIT = 300_000
BODY = json.dumps(slow_body(0, 1)).encode()


@pytest.fixture(scope="module")
def slow_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slow")
    slow_model(path)
    return path


@pytest.fixture(scope="module")
def slow(slow_repository: Path) -> Iterator[Server]:
    with Server(slow_repository, SERVE_MAX_BODY_BYTES=str(LIMIT)) as server:
        server.wait_until_ready()
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def head(length: int | None, *more: str) -> bytes:
    lines = ["POST /invocations HTTP/1.1", "Host: x", "Content-Type: application/json", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def test_c018_a_chunked_body_in_crumbs_is_one_body(slow: Server) -> None:
    with connect(slow) as connection:
        connection.sendall(head(None, "Transfer-Encoding: chunked", "Connection: close"))
        for at in range(0, len(BODY), 7):
            part = BODY[at : at + 7]
            connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"data":[1.0]' in answer


def test_c018_a_client_that_waits_for_100_continue_gets_it(slow: Server) -> None:
    with connect(slow) as connection:
        connection.sendall(head(len(BODY), "Expect: 100-continue", "Connection: close"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert read_all(connection).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("upgrade", ["Upgrade: h2c", "Upgrade: websocket", "Upgrade: TLS/1.2"])
def test_a_request_that_asks_for_another_protocol_is_answered_in_this_one(slow: Server, upgrade: str) -> None:
    """Java's HTTP client and Spring ask for h2c by default."""
    with connect(slow) as connection:
        connection.sendall(head(len(BODY), "Connection: Upgrade", upgrade))
        time.sleep(0.1)
        connection.sendall(BODY)
        assert read_until(connection, b'"data":[1.0]').startswith(b"HTTP/1.1 200 OK\r\n")
        # The connection goes on in HTTP/1.1.
        connection.sendall(head(None, "Connection: Upgrade", upgrade, "Transfer-Encoding: chunked"))
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert read_until(connection, b'"data":[1.0]').startswith(b"HTTP/1.1 200 OK\r\n")
        connection.sendall(f"POST /nowhere HTTP/1.1\r\nConnection: Upgrade\r\n{upgrade}\r\n".encode())
        connection.sendall(b"Content-Length: 2\r\n\r\n{}" + head(len(BODY), "Connection: close") + BODY)
        answers = read_all(connection)
    assert (answers.count(b"HTTP/1.1 404 "), answers.count(b"HTTP/1.1 200 ")) == (1, 1)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_with_http2_is_answered(slow: Server) -> None:
    command = ["curl", "--silent", "--show-error", "--fail", "--http2", "--data-binary", "@-"]
    url = f"http://127.0.0.1:{slow.port}/invocations"
    done = subprocess.run([*command, url], input=BODY, capture_output=True, timeout=60)
    assert b'"data":[1.0]' in done.stdout, done.stderr


def test_c019_too_large_a_body_is_413_before_it_is_sent(slow: Server) -> None:
    with connect(slow) as connection:
        connection.sendall(head(LIMIT + 1, "Expect: 100-continue"))
        answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer


def test_c019_too_large_a_chunked_body_is_413_while_it_comes(slow: Server) -> None:
    """The client goes on sending for a while, and still finds the answer."""
    with connect(slow) as connection:
        connection.sendall(head(None, "Transfer-Encoding: chunked"))
        chunk = b"%x\r\n%b\r\n" % (60_000, b" " * 60_000)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(20):
                connection.sendall(chunk)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_c019_a_body_of_many_tiny_chunks_is_refused(slow: Server) -> None:
    with connect(slow) as connection:
        connection.sendall(head(None, "Transfer-Encoding: chunked"))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"1\r\n \r\n" * 70_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert slow.ping() == 200


def test_pipelined_requests_are_answered_in_order(slow: Server) -> None:
    bodies = [json.dumps(slow_body(0.2 if number == 0 else 0, number)).encode() for number in range(8)]
    with connect(slow) as connection:
        wire = b"".join(head(len(body)) + body for body in bodies[:-1])
        connection.sendall(wire + head(len(bodies[-1]), "Connection: close") + bodies[-1])
        answers = read_all(connection).split(b"HTTP/1.1 200 OK")[1:]
    numbers = [json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"][0]["data"][0] for answer in answers]
    assert numbers == pytest.approx([0.2, 1, 2, 3, 4, 5, 6, 7], abs=1e-6)


NO_REQUESTS = [
    (b"nonsense\r\n\r\n", b"400"),
    (b"GET /ping HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", b"400"),
    (b"POST /invocations HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    (b"POST /invocations HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", b"400"),
    (b"POST /invocations HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"400"),
    (b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    (b"GET /ping HTTP/1.1\r\nX: " + b"x" * 70_000, b"431"),
]


def test_what_is_no_request_is_refused_and_the_connection_closed(slow: Server) -> None:
    """All at once, because the end comes only when a client has had time to stop sending."""
    with contextlib.ExitStack() as open_ones:
        connections = [open_ones.enter_context(connect(slow)) for _ in NO_REQUESTS]
        for connection, (wire, _) in zip(connections, NO_REQUESTS, strict=True):
            connection.sendall(wire)
        for connection, (wire, status) in zip(connections, NO_REQUESTS, strict=True):
            answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 " + status), wire[:100]
            assert b"error" in answer
    assert slow.ping() == 200


def test_a_client_that_sends_no_more_still_gets_its_answers(slow: Server) -> None:
    with connect(slow) as connection:
        body = json.dumps(slow_body(0.2, 1)).encode()
        connection.sendall((head(len(body)) + body) * 2)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).count(b"HTTP/1.1 200 OK") == 2
    with connect(slow) as connection:
        connection.sendall(head(100) + b"{")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")


def test_nonsense_behind_a_request_costs_only_what_follows(slow: Server) -> None:
    with connect(slow) as connection:
        connection.sendall(head(len(BODY)) + BODY + b"nonsense\r\n\r\n")
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_http_1_0_is_answered_and_closed(slow: Server) -> None:
    with connect(slow) as connection:
        connection.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 OK\r\n")


def test_slow_and_half_open_clients_cost_nothing_but_a_socket(slow: Server) -> None:
    """300 connections that say nothing, half a head, or half a body, while others are answered."""
    half = [b"", b"POST /invocations HTTP/1.1\r\nHost", head(len(BODY)) + BODY[:20]]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(slow)) for _ in range(300)]
        for number, client in enumerate(clients):
            client.sendall(half[number % 3])
        for _ in range(20):
            assert slow.invoke(BODY).status == 200
            assert slow.ping() == 200
        clients[2].sendall(BODY[20:])  # one of them comes round
        assert clients[2].recv(100).startswith(b"HTTP/1.1 200 OK")


def test_c038_in_single_model_mode_target_model_changes_nothing(slow: Server) -> None:
    assert slow.invoke(BODY, {"X-Amzn-SageMaker-Target-Model": "other.tar.gz"}).status == 200


def test_c042_c043_sagemakers_headers_are_taken_and_two_come_back(slow: Server) -> None:
    prefix = "X-Amzn-SageMaker-"
    names = (
        "Custom-Attributes", "Target-Model", "Target-Variant", "Target-Container-Hostname", "Inference-Id",
        "Enable-Explanations", "Inference-Component", "Session-Id", "Prefix-Aware-Id",
    )  # fmt: skip
    answer = slow.invoke(BODY, {prefix + name: f"value of {name}" for name in names})
    assert answer.status == 200
    back = {name for name in names if (prefix + name).lower() in answer.headers}
    assert back == {"Custom-Attributes", "Inference-Id"}
    assert (
        slow.invoke(b"{", {prefix + "Custom-Attributes": "a=b"}).headers[f"{prefix}Custom-Attributes".lower()] == "a=b"
    )
    for name in ("Custom-Attributes", "Inference-Id"):
        long = slow.invoke(BODY, {prefix + name: "x" * 1025})
        assert (long.status, f"{prefix}{name}".lower() in long.headers) == (200, False)
