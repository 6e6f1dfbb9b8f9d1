"""Benchmark rig: random recommenders exported as real ones, real servers, and calls timed in interleaved rounds."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import torch
from rich.progress import Progress

from ncf.data.interactions import IdIndex
from ncf.export.export import ExportedModel, export
from ncf.models.neural import build_model
from ncf.models.seen import SeenItems
from ncf.training.config import TrainConfig
from ncf.training.run_directory import Run
from serve.supervisor.ports import LOOPBACK
from serve.triton.runtime import NGC_SERVER

SEEN_EACH = 150
START_SECONDS = 180
Times = list[float]
Call = Callable[[], Awaitable[Times]]


@dataclass
class Report:
    """One table of results; `record` is what goes into the JSON file."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    targets: list[tuple[str, bool | None]] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What every section needs."""

    folder: Path
    rounds: int
    seconds: float
    quick: bool
    device: str
    progress: Progress
    made: dict[str, Recommender] = field(default_factory=dict)

    def say(self, what: str) -> None:
        self.progress.console.print(what, highlight=False)

    @property
    def most_items(self) -> int:
        """The large catalogue."""
        return 100_000 if self.quick else 1_000_000

    @property
    def backend(self) -> str:
        return "libtorch" if NGC_SERVER.exists() else "stand-in"


@dataclass(frozen=True)
class Recommender:
    """A random model, exported; `repository` holds nothing else."""

    name: str
    run: Run
    exported: ExportedModel
    repository: Path

    @property
    def num_users(self) -> int:
        return len(self.run.users)

    @property
    def num_items(self) -> int:
        return len(self.run.items)

    def seen(self, user: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        indptr = self.run.known.indptr
        return self.run.known.items[indptr[user] : indptr[user + 1]].numpy()


def text_ids(prefix: str, count: int) -> IdIndex:
    """Sorted ids such as u0000017."""
    return IdIndex(pl.select(pl.lit(prefix) + pl.int_range(count).cast(pl.String).str.zfill(8)).to_series())


def random_recommender(bench: Bench, model: str, factors: int, users: int, items: int) -> Recommender:
    """Made once for all sections."""
    name = f"{model}{factors}_{items}"
    if name in bench.made:
        return bench.made[name]
    repository = bench.folder / name
    task = bench.progress.add_task(f"exporting {model}, {factors} factors, {items:,} items", total=None)
    torch.manual_seed(0)
    user = torch.arange(users).repeat_interleave(SEEN_EACH)
    known = SeenItems.of(user, torch.randint(items, (len(user),)), users, items)
    run = Run(
        Path(name),
        TrainConfig(model=model, num_factors=factors),
        text_ids("u", users),
        text_ids("item-", items),
        known,
        build_model(model, users, items, factors).eval(),
        held_out="",
    )
    exported = export(run, repository, name, device=bench.device)
    bench.progress.remove_task(task)
    bench.made[name] = Recommender(name, run, exported, repository)
    return bench.made[name]


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is sure to be gone afterwards, with all that it has started."""
    with log.open("wb") as file:
        started = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        yield started
    except Exception as error:
        if started.poll() is not None:
            said = log.read_text(errors="replace")[-2000:]
            raise click.ClickException(f"{command[0]} ended with {started.returncode}:\n{said}") from error
        raise
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(40)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):  # TorchServe's program ends without its Java
                os.killpg(started.pid, signal.SIGKILL)


def wait_for(ready: Callable[[], bool], started: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if started.poll() is not None or time.monotonic() > deadline:
            raise click.ClickException(f"a server did not come up:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def serving(bench: Bench, repository: Path) -> Iterator[tuple[int, int]]:
    """The whole `serve`; its public port and the HTTP port of its Triton."""
    while True:  # Triton's own ports are the first that are free in the range
        public, low = free_ports(2)
        if low < 65_534 and public not in range(low, low + 3) and not any(map(listens, range(low, low + 3))):
            break
    environment = {
        **os.environ,
        "SERVE_MODEL_REPOSITORY": str(repository),
        "SERVE_BIND_ADDRESS": LOOPBACK,
        "SAGEMAKER_BIND_TO_PORT": str(public),
        "SAGEMAKER_SAFE_PORT_RANGE": f"{low}-{low + 2}",
    }
    task = bench.progress.add_task("starting serve", total=None)
    log = Path(tempfile.mkdtemp(dir=bench.folder)) / "log"
    with process([str(Path(sys.executable).parent / "serve")], environment, log) as started:
        wait_for(lambda: "serve: ready" in log.read_text(), started, log)
        bench.progress.remove_task(task)
        yield public, low


async def timed(call: Callable[[], Awaitable[Any]], seconds: float, at_least: int = 3) -> Times:
    """One call after the other for some seconds."""
    times: Times = []
    end = time.perf_counter() + seconds
    while len(times) < at_least or time.perf_counter() < end:
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return times


async def interleaved(bench: Bench, what: str, ways: dict[str, Call]) -> dict[str, list[Times]]:
    """Every way warmed once, then all of them in each round, every second round backwards."""
    results: dict[str, list[Times]] = {name: [] for name in ways}
    task = bench.progress.add_task(what, total=(bench.rounds + 1) * len(ways))
    for number in range(bench.rounds + 1):
        for name, way in [*ways.items()][:: -1 if number % 2 else 1]:
            times = await way()
            if number:
                results[name].append(times)
            bench.progress.advance(task)
    bench.progress.remove_task(task)
    return results


def share(times: Times, part: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


def spread(values: list[float], digits: int = 2) -> str:
    """Median, and the smallest and largest."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def milliseconds(rounds: list[Times], part: float = 0.5) -> list[float]:
    """A quantile of each round, in ms."""
    return [1e3 * share(times, part) for times in rounds]


def ratios(above: list[Times], below: list[Times]) -> list[float]:
    """Round by round, how many times longer the median call takes."""
    return [share(a, 0.5) / share(b, 0.5) for a, b in zip(above, below, strict=True)]
