"""How `serve` treats other clients under overload: the time to connect, /ping, accepted requests, and the recovery."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.rig.run import scratch_run
from benchmarks.rig.servers import PATH, whole_serve
from benchmarks.rig.timing import latency
from benchmarks.rig.wrk import find_wrk, wrk
from serve.supervisor.ports import LOOPBACK

PAUSE_SECONDS = 0.02  # of a probe between two requests
QUIET_SECONDS = 2  # of the probes before and after the load


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--repository", type=click.Path(path_type=Path, exists=True), default=Path("model_repository"))
@click.option("--model", default="ncf_food_model", help="A recommender of the repository.")
@click.option("--user", default="u17", help="A user that it knows.")
@click.option("--connections", default=256, help="Connections of wrk.")
@click.option("--seconds", default=10, help="Seconds of load.")
def main(repository: Path, model: str, user: str, connections: int, seconds: int) -> None:
    """Load serve with wrk, without and with a limit of requests in flight, and measure other clients meanwhile.

    \b
    Example, after `make demo`:
      python -m benchmarks.serving.overload
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # an exception, so that serve is stopped
    find_wrk()
    body = json.dumps({"model": model, "user_id": user, "k": 10}).encode()
    table = Table("", "load", "p50 ms", "p99 ms", "longest ms", "answers", title=f"wrk with {connections} connections")
    with scratch_run() as run:
        for limit in (100_000, 16):
            name = "no limit" if limit > connections else f"SERVE_MAX_IN_FLIGHT={limit}"
            with (
                whole_serve(run, repository, settings={"SERVE_MAX_IN_FLIGHT": str(limit)}) as target,
                ThreadPoolExecutor(1) as pool,
            ):
                before, during, after = (Probe(target.port, body) for _ in range(3))
                before.run_for(QUIET_SECONDS)
                load = pool.submit(wrk, target, [body], connections, seconds, count_errors=True)
                during.run_for(seconds - 1)
                found = load.result()
                after.run_for(QUIET_SECONDS)
            for when, probe in (("before", before), ("under load", during), ("after", after)):
                for kind, times in probe.times.items():
                    table.add_row(f"{name}, {when}", kind, *cells(latency(times) if times else {}), f"{len(times):,}")
            answers = f"{found.requests:,}, of them 503: {found.errors.get('503', 0):,}"
            table.add_row(f"{name}, wrk", "all", *cells(found.figures(1)), answers)
    Console(width=130, highlight=False).print(table)


def cells(figures: dict[str, float]) -> list[str]:
    return [f"{figures[name]:.1f}" if figures else "–" for name in ("p50_ms", "p99_ms", "longest_ms")]


class Probe:
    """A client that opens a connection for each request, and asks in parallel for /ping and for recommendations."""

    def __init__(self, port: int, body: bytes) -> None:
        self.port, self.body = port, body
        self.times: dict[str, list[float]] = {"connect": [], "/ping": [], "accepted request": []}

    def run_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(2) as pool:
            for asked in [pool.submit(ask, end) for ask in (self.ping, self.recommend)]:
                asked.result()

    def ping(self, end: float) -> None:
        while time.monotonic() < end:
            status, connecting, answering = self.timed("GET", "/ping")
            if status != 200:
                raise click.ClickException(f"GET /ping is answered with {status} under load; it must be 200")
            self.times["connect"].append(connecting)
            self.times["/ping"].append(answering)
            time.sleep(PAUSE_SECONDS)

    def recommend(self, end: float) -> None:
        while time.monotonic() < end:
            status, _, answering = self.timed("POST", PATH, self.body)
            if status == 200:
                self.times["accepted request"].append(answering)
            time.sleep(PAUSE_SECONDS)

    def timed(self, method: str, path: str, body: bytes | None = None) -> tuple[int, float, float]:
        """Status, seconds to connect, and seconds from then until the whole answer has arrived."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=30)
        connection.connect()
        connected = time.perf_counter()
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        answered = time.perf_counter()
        connection.close()
        return answer.status, connected - began, answered - connected


if __name__ == "__main__":
    main()
