"""Metrics in Prometheus' text format: the workers' counts, and Triton's own metrics on the same page.

No other format is offered, because Triton has only this one and a page must be in one format.
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
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.telemetry.counts import BUCKETS, Record, TallyFolder, Totals
from serve.telemetry.page_socket import METRICS_TYPE
from serve.triton.address import AddressReader, TritonAddress

log = logging.getLogger("serve")

TRITON_SECONDS = 1.0
MAX_TRITON_BYTES = 32 * 2**20
# A connection on which nothing moves for this long is closed.
CALLER_SECONDS = 5.0

BOUNDS = (*map(str, BUCKETS), "+Inf")


@dataclass(frozen=True)
class State:
    """What the supervisor knows beside the workers' counts: the number of restarts of each process, the live version of
    each recommender (None where it has none), and the number of versions that could not be loaded."""

    restarts: Mapping[str, int]
    versions: Mapping[str, int | None]
    failed: int


class Families(Collector):
    """The totals and the state as metric families."""

    def __init__(self, totals: Totals, state: State, triton_up: bool) -> None:
        self.totals, self.state, self.triton_up = totals, state, triton_up

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
        shed = CounterMetricFamily("serve_requests_shed", "Requests refused: too many in flight.", labels=("model",))
        for model, count in sorted(self.totals.shed.items()):
            shed.add_metric((model,), count)
        yield shed
        yield GaugeMetricFamily("serve_workers", "Worker processes.", value=self.totals.workers)
        yield GaugeMetricFamily("serve_triton_up", "1 if Triton's own metrics are here.", value=self.triton_up)
        restarts = CounterMetricFamily("serve_restarts", "Restarts of a process that had died.", labels=("process",))
        for process, count in sorted(self.state.restarts.items()):
            restarts.add_metric((process,), count)
        yield restarts
        version = GaugeMetricFamily(
            "serve_model_version", "Version of a recommender that is live; 0 if none is.", labels=("model",)
        )
        for model, number in sorted(self.state.versions.items()):
            version.add_metric((model,), number or 0)
        yield version
        yield GaugeMetricFamily("serve_versions_failed", "Versions that could not be loaded.", value=self.state.failed)


class Page:
    """Makes the page of metrics; safe to use from any thread."""

    def __init__(
        self,
        tallies: TallyFolder,
        triton: AddressReader,
        state: Callable[[], State],
    ) -> None:
        self.tallies, self.triton, self.state = tallies, triton, state

    def __call__(self) -> bytes:
        own = b""
        with suppress(OSError, ValueError, http.client.HTTPException):
            own = triton_metrics(self.triton())
        return generate_latest(Families(self.tallies.read(), self.state(), own != b"")) + own


def triton_metrics(address: TritonAddress) -> bytes:
    """Triton's own page. Raises OSError, ValueError or HTTPException if it does not come within a second."""
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
            log.error("metrics: the workers' counts cannot be read: %s", error)
            self._answer(503, "text/plain", b"the workers' counts cannot be read; the server's log has the reason\n")
            return
        self._answer(200, METRICS_TYPE, text)

    do_HEAD = do_GET

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests for metrics are not logged."""

    def version_string(self) -> str:
        return "serve"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own would look up this machine's name

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # an OSError means that the caller has gone
            log.exception("metrics: a request failed")


class MetricsServer:
    """Answers GET /metrics on its own port, in its own threads."""

    def __init__(self, address: str, port: int, page: Callable[[], bytes]) -> None:
        """Begin to listen. Raises OSError if the port is taken or may not be used."""
        # staticmethod, because a plain function in a class would be called with the handler as its first argument.
        handler = type("Handler", (_Handler,), {"page": staticmethod(page)})
        kind = type("Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in address else socket.AF_INET})
        self._server: _Server = kind((address, port), handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
