"""Metrics for Prometheus, in its text format: what the workers counted, and Triton's own on the same page.

Only that one format: Triton speaks no other, and two formats on one page are none.
"""

from __future__ import annotations

import http.client
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.telemetry.counts import BUCKETS, Record, TallyFolder, Totals
from serve.triton.address import TritonAddress

log = logging.getLogger("serve")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TRITON_SECONDS = 1.0
MAX_TRITON_BYTES = 32 * 2**20
# A caller that sends or takes nothing for so long is dropped.
CALLER_SECONDS = 5.0

BOUNDS = (*map(str, BUCKETS), "+Inf")


class Families(Collector):
    """The totals as metric families; `restarts` says how often each process was started again."""

    def __init__(self, totals: Totals, restarts: Mapping[str, int], triton_up: bool) -> None:
        self.totals, self.restarts, self.triton_up = totals, restarts, triton_up

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "serve_requests", "Requests answered, by model, kind and HTTP status.", labels=("model", "kind", "status")
        )
        by_kind: dict[tuple[str, str], Record] = {}
        for (model, kind, status), record in sorted(self.totals.requests.items()):
            requests.add_metric((model, kind, str(status)), sum(record[:-1]))
            so_far = by_kind.get((model, kind), [0] * len(record))
            by_kind[model, kind] = [a + b for a, b in zip(so_far, record, strict=True)]
        yield requests
        seconds = HistogramMetricFamily(
            "serve_request_seconds", "Seconds from a request to its answer.", labels=("model", "kind")
        )
        for labels, record in by_kind.items():
            counts = accumulate(record[:-1])
            seconds.add_metric(labels, buckets=list(zip(BOUNDS, counts, strict=True)), sum_value=record[-1])
        yield seconds
        in_flight = GaugeMetricFamily("serve_requests_in_flight", "Requests being answered now.", labels=("model",))
        for model, count in sorted(self.totals.in_flight.items()):
            in_flight.add_metric((model,), count)
        yield in_flight
        shed = CounterMetricFamily("serve_requests_shed", "Requests turned away: too many.", labels=("model",))
        for model, count in sorted(self.totals.shed.items()):
            shed.add_metric((model,), count)
        yield shed
        yield GaugeMetricFamily("serve_workers", "Worker processes there are.", value=self.totals.workers)
        yield GaugeMetricFamily("serve_triton_up", "Whether Triton's own metrics could be had.", value=self.triton_up)
        restarts = CounterMetricFamily("serve_restarts", "Processes started again after a death.", labels=("process",))
        for process, count in sorted(self.restarts.items()):
            restarts.add_metric((process,), count)
        yield restarts


class Page:
    """The page of metrics as it is now; for any thread."""

    def __init__(
        self,
        tallies: TallyFolder,
        triton: Callable[[], TritonAddress],
        restarts: Callable[[], Mapping[str, int]],
    ) -> None:
        """`triton` may raise OSError or ValueError where there is no address."""
        self.tallies, self.triton, self.restarts = tallies, triton, restarts

    def __call__(self) -> bytes:
        own = b""
        with suppress(OSError, ValueError, http.client.HTTPException):
            own = triton_metrics(self.triton())
        return generate_latest(Families(self.tallies.read(), self.restarts(), own != b"")) + own


def triton_metrics(address: TritonAddress) -> bytes:
    """Triton's own page. Raises OSError, ValueError or HTTPException if it cannot be had within a second."""
    connection = http.client.HTTPConnection(address.host, address.metrics_port, timeout=TRITON_SECONDS)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read(MAX_TRITON_BYTES + 1)
    finally:
        connection.close()
    if answer.status != 200 or len(text) > MAX_TRITON_BYTES:
        raise ValueError(f"status {answer.status}, {len(text):,} bytes")
    return text if text.endswith(b"\n") else text + b"\n"


class _Handler(BaseHTTPRequestHandler):
    timeout = CALLER_SECONDS
    page: Callable[[], bytes]

    def do_GET(self) -> None:
        if self.path.split("?")[0] != "/metrics":
            self._answer(404, "text/plain", b"metrics are at /metrics\n")
            return
        try:
            text = self.page()
        except (OSError, ValueError) as error:
            log.error("metrics: cannot read what the workers counted: %s", error)
            self._answer(503, "text/plain", b"the counts cannot be read now; the server's log says more\n")
            return
        self._answer(200, CONTENT_TYPE, text)

    do_HEAD = do_GET

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """A scrape is no news."""

    def version_string(self) -> str:
        return "serve"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks the name service who we are

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # those are callers that went away
            log.exception("metrics: a request failed")


class MetricsServer:
    """Answers GET /metrics on a port of its own, from threads of its own."""

    def __init__(self, address: str, port: int, page: Callable[[], bytes]) -> None:
        """Listens from now on. Raises OSError if the port cannot be had."""
        # As a static method, for a function kept in a class would be called with the handler.
        handler = type("Handler", (_Handler,), {"page": staticmethod(page)})
        kind = type("Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in address else socket.AF_INET})
        self._server: _Server = kind((address, port), handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """No new requests; the port is free again."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
