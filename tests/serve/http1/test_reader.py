"""From bytes to requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve.http1.apps import App
from tests.support.front import Front, read_all

LAST = b"GET /last HTTP/1.1\r\nConnection: close\r\n\r\n"


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def front(app: App) -> Iterator[Front]:
    with Front(app) as running:
        yield running


def test_a_request_is_the_same_however_it_is_cut(front: Front, app: App) -> None:
    wire = b"POST /a/b?c=d HTTP/1.1\r\nHost: x\r\nX-Y: z\r\nContent-Length: 5\r\n\r\nhello" + LAST
    whole = front.exchange(wire)
    assert b"POST /a/b?c=d hello" in whole
    with front.connect() as connection:
        for at in range(len(wire)):
            connection.sendall(wire[at : at + 1])
        assert read_all(connection).count(b"HTTP/1.1 200 OK") == 2
    one, _, other, _ = app.seen
    assert (one.method, one.path, one.query, one.headers) == (other.method, other.path, other.query, other.headers)
    assert one.headers == {b"host": b"x", b"x-y": b"z", b"content-length": b"5"}


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/x?", b"/x", b""),
        (b"/x?y?z", b"/x", b"y?z"),
        (b"//x", b"//x", b""),
        (b"/%2e", b"/%2e", b""),
        (b"http://host:80/x?y", b"/x", b"y"),
        (b"http://host", b"/", b""),
        (b"*", b"/", b""),
    ],
)
def test_every_form_of_a_target_is_a_path(front: Front, app: App, target: bytes, path: bytes, query: bytes) -> None:
    front.exchange(b"OPTIONS %b HTTP/1.1\r\nConnection: close\r\n\r\n" % target)
    assert (app.seen[0].path, app.seen[0].query) == (path, query)


def test_of_a_repeated_header_the_last_counts_and_of_accept_all(front: Front, app: App) -> None:
    headers = b"Accept: text/csv\r\nX: 1\r\naccept: text/*;q=0.5\r\nx: 2\r\n"
    front.exchange(b"GET / HTTP/1.1\r\n" + headers + b"Connection: close\r\n\r\n")
    assert app.seen[0].headers[b"accept"] == b"text/csv,text/*;q=0.5"
    assert app.seen[0].headers[b"x"] == b"2"


def test_a_trailer_is_no_header(front: Front, app: App) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n"
    assert b" 200 OK" in front.exchange(head + b"2\r\nab\r\n0\r\nX: 2\r\nY: 3\r\n\r\n" + LAST)
    assert app.seen[0].headers == {b"transfer-encoding": b"chunked", b"x": b"1"}


@pytest.mark.parametrize("bytes_of_head", [70_000, 400_000])
def test_a_head_has_a_limit(front: Front, app: App, bytes_of_head: int) -> None:
    answer = front.exchange(b"GET / HTTP/1.1\r\nX: " + b"y" * bytes_of_head)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"more than 65,536 bytes" in answer
    assert app.seen == []


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_the_limit_of_a_head_does_not_depend_on_the_cuts(front: Front, app: App, more: int, upgrade: bytes) -> None:
    """One byte below and one above the limit, in front of another request, cut before, at and behind the limit."""
    rest = b"Host: x\r\n" + upgrade
    used = len(b"/") + len(rest) + len(b"X: \r\n")
    wire = b"GET / HTTP/1.1\r\n%bX: %b\r\n\r\n" % (rest, b"y" * (65_536 - used + more)) + LAST
    answers = {front.exchange(wire)} | {front.exchange(wire[:cut], wire[cut:]) for cut in (9, 60_000, 65_540, 65_560)}
    statuses = {tuple(word[:3] for word in answer.split(b"HTTP/1.1 ")[1:]) for answer in answers}
    assert statuses == ({(b"431",)} if more else {(b"200", b"200")})
    assert len(app.seen) == (0 if more else 10)
    assert front.state.body_bytes == 0


def test_the_limit_of_trailers_does_not_depend_on_the_cuts(front: Front) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
    for size, status in ((60_000, b"200"), (66_000, b"400")):
        wire = head + b"X: " + b"y" * size + b"\r\n\r\n" + LAST
        answers = [front.exchange(wire)] + [front.exchange(wire[:cut], wire[cut:]) for cut in (100, 66_000)]
        assert [answer.split()[1] for answer in answers] == [status] * 3
        assert [answer.count(b"GET /last") for answer in answers] == [int(status == b"200")] * 3


def test_a_body_in_crumbs_has_a_limit(front: Front, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.http1.reader.MANY_PIECES", 100)
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    for piece, pieces in ((b"x", 100), (b"x" * 64, 200)):
        body = b"%x\r\n%b\r\n" % (len(piece), piece) * pieces
        assert b" 200 OK" in front.exchange(head, body + b"0\r\n\r\n")
    answer = front.exchange(head, b"1\r\nx\r\n" * 200)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"too many chunks of a few bytes" in answer
    assert front.state.body_bytes == 0


@pytest.mark.parametrize(
    "wrong", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"\x16\x03\x01\x02\x00"]
)
def test_what_is_not_http_is_refused_behind_the_answers_to_what_was(front: Front, app: App, wrong: bytes) -> None:
    assert front.exchange(wrong).startswith(b"HTTP/1.1 400 ")
    assert app.seen == []
    answer = front.exchange(b"GET /first HTTP/1.1\r\n\r\n" + wrong)
    assert answer.endswith(b"GET /first? ")
    assert b"connection: close" in answer
