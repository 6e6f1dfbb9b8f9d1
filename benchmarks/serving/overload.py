"""What others feel while `serve` has too much to do: connecting, /ping, accepted requests, and the time after."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.rig.rig import free_ports
from benchmarks.rig.servers import PATH
from benchmarks.rig.wrk import SCRIPT, find_wrk, require_wrk
from serve.supervisor.ports import LOOPBACK

PAUSE = 0.02


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--repository", type=click.Path(path_type=Path, exists=True), default=Path("model_repository"))
@click.option("--model", default="ncf_food_model", help="A recommender of the repository.")
@click.option("--user", default="u17", help="A user it knows.")
@click.option("--connections", default=256, help="Of wrk.")
@click.option("--seconds", default=10)
def main(repository: Path, model: str, user: str, connections: int, seconds: int) -> None:
    """Load `serve` with wrk and measure beside it.

    \b
    Example, after `make demo`:
      python -m benchmarks.serving.overload
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    require_wrk()
    body = json.dumps({"model": model, "user_id": user, "k": 10}).encode()
    table = Table("", "load", "p50 ms", "p99 ms", "longest ms", "answers", title=f"wrk with {connections} connections")
    for limit in (100_000, 16):
        what = "no limit" if limit > connections else f"SERVE_MAX_IN_FLIGHT={limit}"
        with serving(repository, limit) as port:
            alone, load, after = Probe(port, body), Probe(port, body), Probe(port, body)
            alone.run_for(2)
            with tempfile.NamedTemporaryFile() as file:
                file.write(body)
                file.flush()
                wrk = subprocess.Popen(
                    [
                        find_wrk() or "wrk", "--threads", "1", "--connections", str(connections),
                        "--duration", f"{seconds}s", "--script", str(SCRIPT),
                        f"http://{LOOPBACK}:{port}{PATH}", "--", file.name, "application/json",
                    ],
                    stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
                load.run_for(seconds - 1)
                loaded = json.loads(wrk.communicate()[0].strip().splitlines()[-1])
            after.run_for(2)
        for name, probe in (("before", alone), ("under load", load), ("after", after)):
            for kind, times in probe.times.items():
                table.add_row(f"{what}, {name}", kind, *shares(times), f"{len(times):,}")
        turned_away = loaded["status"]
        table.add_row(
            f"{what}, wrk", "all", f"{loaded['p50'] / 1e3:.1f}", f"{loaded['p99'] / 1e3:.1f}",
            f"{loaded['longest'] / 1e3:.1f}", f"{loaded['requests']:,}, of them 503: {turned_away:,}",
        )  # fmt: skip
    Console(width=130, highlight=False).print(table)


class Probe:
    """A client of its own: a new connection with /ping, and a request that counts if it was accepted, in turn."""

    def __init__(self, port: int, body: bytes) -> None:
        self.port, self.body = port, body
        self.times: dict[str, list[float]] = {"connect": [], "/ping": [], "accepted request": []}

    def run_for(self, seconds: float) -> None:
        threads = [threading.Thread(target=self._run, args=(time.monotonic() + seconds, asks)) for asks in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, end: float, asks: int) -> None:
        while time.monotonic() < end:
            began = time.perf_counter()
            connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=30)
            connection.connect()
            connected = time.perf_counter()
            connection.request("POST", PATH, self.body) if asks else connection.request("GET", "/ping")
            answer = connection.getresponse()
            answer.read()
            connection.close()
            if asks:
                if answer.status == 200:
                    self.times["accepted request"].append(time.perf_counter() - connected)
            else:
                if answer.status != 200:
                    raise click.ClickException(f"/ping is {answer.status}")
                self.times["connect"].append(connected - began)
                self.times["/ping"].append(time.perf_counter() - connected)
            time.sleep(PAUSE)


def shares(times: list[float]) -> list[str]:
    found = sorted(times) or [float("nan")]
    return [f"{1000 * found[min(len(found) - 1, int(part * len(found)))]:.1f}" for part in (0.5, 0.99, 1)]


@contextlib.contextmanager
def serving(repository: Path, limit: int) -> Iterator[int]:
    """`serve` with a limit of requests under way; its port."""
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "SERVE_MODEL_REPOSITORY": str(repository),
        "SERVE_BIND_ADDRESS": LOOPBACK,
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SERVE_MAX_IN_FLIGHT": str(limit),
    }
    process = subprocess.Popen([Path(sys.executable).parent / "serve"], env=environment, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1) as probe:
                probe.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
                if b" 200 " in probe.recv(100):
                    break
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(40)


if __name__ == "__main__":
    main()
