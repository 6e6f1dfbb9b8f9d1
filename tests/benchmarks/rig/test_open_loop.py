"""Load from a process of its own against a small server: answers, errors, windows, and clients that wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

import click
import httptools
import pytest

from benchmarks.rig import open_loop as bench_open_loop
from benchmarks.rig.open_loop import Request, Stage, closed_loop, open_loop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
PAIR = [Request("/invocations", b'{"user_id": "u1"}')]


class Answers(asyncio.Protocol):
    """Answers the body of a request with what `by_body` has for it; nothing where that is empty."""

    def __init__(self, by_body: Callable[[str, bytes], bytes | None]) -> None:
        self.by_body = by_body
        self.parser = httptools.HttpRequestParser(self)
        self.body = self.path = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.path = url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        answer = self.by_body(self.path.decode(), self.body)
        self.body = b""
        if answer is None:
            self.transport.close()
            return
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(answer)
        if answer in (LAST, OK[:-5]):
            self.transport.close()


@contextlib.contextmanager
def server(answer: Callable[[str, bytes], bytes | None]) -> Iterator[int]:
    """Its port."""
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(loop.create_server(lambda: Answers(answer), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        loop.run_until_complete(asyncio.sleep(0))  # so that it is closed
        loop.close()


def test_answers_are_counted_by_status_and_timed_apart() -> None:
    seen = []

    def answer(path: str, body: bytes) -> bytes:
        seen.append((path, body))
        return BUSY if body == b"busy" else OK

    requests = [Request("/a", b"one"), Request("/b", b"busy"), Request("/c", b"3", "text/csv"), Request("/d", b"4")]
    with server(answer) as port:
        (figures,) = open_loop(port, requests, [Stage(400, 1)])
    count = figures["requests"]
    assert len(seen) == count
    assert set(seen) == {("/a", b"one"), ("/b", b"busy"), ("/c", b"3"), ("/d", b"4")}
    assert abs(count - 400) < 120  # six standard deviations
    assert figures["offered_per_s"] == count
    assert figures["errors"] == {"503": (count + 2) // 4}
    assert figures["shed_share"] == pytest.approx(0.25, abs=0.01)
    assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p95_ms"] <= figures["p99_ms"] <= figures["longest_ms"]
    assert figures["refused_p99_ms"] > 0
    assert figures["lag_ms"] > 0
    assert figures["generator_cores"] > 0


def test_every_window_of_every_stage_has_its_figures() -> None:
    with server(lambda path, body: OK) as port:
        found = list(open_loop(port, PAIR, [Stage(400, 0.4), Stage(100, 0.4)], window=0.2))
    assert sorted((each["stage"], each["second"]) for each in found) == [(0, 0.2), (0, 0.4), (1, 0.6), (1, 0.8)]
    first, second = (sum(each["requests"] for each in found if each["stage"] == stage) for stage in (0, 1))
    assert first > second > 0


@pytest.mark.parametrize("answer", [None, OK[:-5]])
def test_a_connection_that_is_closed_early_is_an_error_and_the_next_request_gets_another(answer: bytes | None) -> None:
    with server(lambda path, body: answer if body == b"bad" else OK) as port:
        (figures,) = open_loop(port, [Request("/", b"good"), Request("/", b"bad")], [Stage(200, 0.5)])
    assert figures["errors"] == {"closed": figures["requests"] // 2}
    assert figures["p50_ms"] > 0


def test_a_server_that_closes_after_each_answer_loses_nothing() -> None:
    with server(lambda path, body: LAST) as port:
        (figures,) = open_loop(port, PAIR, [Stage(100, 0.5)])
    assert figures["errors"] == {}


def test_what_is_not_answered_in_time_is_a_timeout_and_what_finds_no_connection_is_counted() -> None:
    with server(lambda path, body: b"") as port:
        (figures,) = open_loop(port, PAIR, [Stage(100, 0.5)], connections=3, timeout=0.5)
    assert figures["errors"]["timeout"] >= 3
    assert figures["errors"]["no connection"] == figures["requests"] - figures["errors"]["timeout"]
    assert figures["p50_ms"] is None
    assert figures["requests_per_s"] == figures["accepted_per_s"] == 0


def test_what_is_no_http_and_where_nobody_listens() -> None:
    with server(lambda path, body: b"what?\r\n\r\n") as port:
        (figures,) = open_loop(port, PAIR, [Stage(50, 0.3)])
        assert figures["errors"] == {"no HTTP": figures["requests"]}
    (figures,) = open_loop(port, PAIR, [Stage(50, 0.3)])
    assert figures["errors"] == {"connect": figures["requests"]}


def test_clients_that_wait_have_one_request_each_under_way() -> None:
    with server(lambda path, body: OK) as port:
        figures = closed_loop(port, [Request(f"/{number}", b"") for number in range(3)], 4, 0.3)
    assert figures["requests"] > 4
    assert figures["errors"] == {}


def test_who_reads_no_further_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(lambda path, body: OK) as port:
        figures = open_loop(port, PAIR, [Stage(50, 600)], window=0.1)
        assert next(figures)["requests"] > 0
        figures.close()  # type: ignore[attr-defined]  # waits for the process
    monkeypatch.setattr(bench_open_loop, "PROGRAM", ("-c", "raise SystemExit('out of order')"))
    with pytest.raises(click.ClickException, match="the load generator ended with 1: out of order"):
        list(open_loop(1, PAIR, [Stage(1, 1)]))
