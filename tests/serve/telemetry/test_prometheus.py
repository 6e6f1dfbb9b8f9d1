from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.telemetry.counts import BUCKETS, Tally, TallyFolder
from serve.telemetry.page_socket import METRICS_TYPE
from serve.telemetry.prometheus import MetricsServer, Page, State
from serve.triton.address import TritonAddress
from tests.support.serving import free_port

TRITON = b'# HELP nv_inference_count How many\n# TYPE nv_inference_count counter\nnv_inference_count{model="food"} 3'


def nothing() -> State:
    return State({}, {}, 0)


@contextmanager
def triton(body: bytes = TRITON, status: int = 200) -> Iterator[TritonAddress]:
    """Something that answers as Triton's metrics port does, or as it never would."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield TritonAddress("127.0.0.1", 1, 1, server.server_address[1], "")
    server.shutdown()
    server.server_close()
    thread.join()


def no_triton() -> TritonAddress:
    return TritonAddress("127.0.0.1", 1, 1, free_port(), "")


@contextmanager
def serving(page: Callable[[], bytes]) -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1", 0, page)
    server.start()
    yield server
    server.close()


def ask(port: int, method: str = "GET", path: str = "/metrics", accept: str = "*/*") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Accept": accept})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers["Content-Type"], body


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.fixture
def tallies(tmp_path: Path) -> Iterator[TallyFolder]:
    """What two workers counted, one of which is gone."""
    first, second = Tally(tmp_path), Tally(tmp_path)
    for tally in (first, second):
        for status, seconds in ((200, 0.004), (200, 70.0), (404, 0.004)):
            tally.begin("food")
            tally.end("food", "recommend", status, seconds)
            tally.done("food")
        tally.begin('a"b\\c\nd')
        tally.shed("food")
        tally.flush()
    first.close()
    yield TallyFolder(tmp_path)
    second.close()


def test_the_page_says_what_all_workers_counted(tallies: TallyFolder) -> None:
    text = Page(tallies, no_triton, lambda: State({"gunicorn": 0, "tritonserver": 2}, {"food": 3, "new": None}, 1))()
    found = samples(text)
    assert found[key("serve_requests_total", model="food", kind="recommend", status="200")] == 4
    assert found[key("serve_requests_total", model="food", kind="recommend", status="404")] == 2
    seconds = {"model": "food", "kind": "recommend"}
    assert found[key("serve_request_seconds_count", **seconds)] == 6
    assert found[key("serve_request_seconds_sum", **seconds)] == pytest.approx(140.016)
    assert found[key("serve_request_seconds_bucket", le="0.003", **seconds)] == 0
    assert found[key("serve_request_seconds_bucket", le="0.005", **seconds)] == 4
    assert found[key("serve_request_seconds_bucket", le="60.0", **seconds)] == 4
    assert found[key("serve_request_seconds_bucket", le="+Inf", **seconds)] == 6
    assert found[key("serve_requests_in_flight", model="food")] == 0
    assert found[key("serve_requests_in_flight", model='a"b\\c\nd')] == 1
    assert found[key("serve_requests_shed_total", model="food")] == 2
    assert found[key("serve_workers")] == 1
    assert found[key("serve_triton_up")] == 0
    assert found[key("serve_restarts_total", process="tritonserver")] == 2
    assert found[key("serve_model_version", model="food")] == 3
    assert found[key("serve_model_version", model="new")] == 0
    assert found[key("serve_versions_failed")] == 1
    assert text.count(b"# TYPE serve_request_seconds histogram") == 1
    assert text.count(b"serve_request_seconds_bucket") == len(BUCKETS) + 1


def test_tritons_own_metrics_are_on_the_same_page(tallies: TallyFolder) -> None:
    with triton() as address:
        found = samples(Page(tallies, lambda: address, nothing)())
    assert found[key("nv_inference_count_total", model="food")] == 3  # the suffix is the parser's
    assert found[key("serve_triton_up")] == 1
    assert found[key("serve_requests_shed_total", model="food")] == 2


def test_triton_may_come_back_on_another_port(tallies: TallyFolder) -> None:
    addresses: list[TritonAddress] = []
    page = Page(tallies, lambda: addresses[-1] if addresses else TritonAddress.read(Path("/nowhere")), nothing)
    assert samples(page())[key("serve_triton_up")] == 0
    for _ in range(2):
        with triton() as address:
            addresses.append(address)
            assert samples(page())[key("serve_triton_up")] == 1
        assert samples(page())[key("serve_triton_up")] == 0


def test_a_triton_that_answers_with_an_error_is_down(tallies: TallyFolder) -> None:
    with triton(b"no", 400) as address:
        found = samples(Page(tallies, lambda: address, nothing)())
    assert found[key("serve_triton_up")] == 0


def test_a_triton_that_hangs_does_not_take_our_own_metrics_along(tallies: TallyFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = TritonAddress("127.0.0.1", 1, 1, silent.getsockname()[1], "")
        assert samples(Page(tallies, lambda: address, nothing)())[key("serve_triton_up")] == 0


def test_the_server_answers_one_path_in_one_format(tallies: TallyFolder) -> None:
    page = Page(tallies, no_triton, nothing)
    with serving(page) as server:
        status, kind, body = ask(server.port, accept="application/openmetrics-text; version=1.0.0")
        assert (status, kind, body) == (200, METRICS_TYPE, page())
        assert ask(server.port, path="/metrics?a=b") == (200, METRICS_TYPE, body)
        assert ask(server.port, "HEAD") == (200, METRICS_TYPE, b"")
        for path in ("/", "/metrics/", "/invocations"):
            assert ask(server.port, path=path)[0] == 404
        assert ask(server.port, "POST")[0] == 501


def test_counts_that_cannot_be_read_are_no_page_and_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def page() -> bytes:
        raise OSError("too many open files")

    with serving(page) as server:
        assert ask(server.port)[0] == 503
    assert ["too many open files" in record.getMessage() for record in caplog.records] == [True]


def test_nobody_waits_for_a_caller_who_says_nothing() -> None:
    with serving(lambda: b"x 1\n") as server:
        with socket.create_connection(("127.0.0.1", server.port)):
            assert ask(server.port)[2] == b"x 1\n"
        with socket.create_connection(("127.0.0.1", server.port)) as rude:
            rude.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert ask(server.port)[2] == b"x 1\n"


def test_a_port_that_is_taken_is_known_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        MetricsServer("127.0.0.1", taken.getsockname()[1], lambda: b"")


def test_a_server_that_was_never_started_frees_its_port() -> None:
    server = MetricsServer("127.0.0.1", 0, lambda: b"")
    server.close()
    with serving(lambda: b"x 1\n"):
        MetricsServer("127.0.0.1", server.port, lambda: b"").close()
