"""Section "implicit": a user's best items by the library implicit, by the exported module, and through Triton.

All have the same factors. implicit and the module are called in process, in a worker process each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import ROOT
from benchmarks.ranking.catalogue import MANY_USERS, many_items
from benchmarks.ranking.client import Client
from benchmarks.rig.points import Key
from benchmarks.rig.recommender import Recommender
from benchmarks.rig.run import ITEMS, USERS, BenchRun
from benchmarks.rig.timing import Times, latency, timed
from benchmarks.rig.tritonserver import tritonserver
from ncf.training.config import DEFAULT_K

SECTION = "implicit"
WAYS = ("implicit, 1 thread", "implicit, default threads", "module in process, 1 thread", "query through Triton")
PYTHON = ROOT / ".venv/bench/bin/python"
PROGRAM = ROOT / "benchmarks/peers/workers.py"
MOST_CALLS = 2000  # of a worker in a round
STOP_SECONDS = 20
Ask = Callable[[list[int]], Any]
"""From user indices to the seconds of each call, and the items of the last user."""


def run(run: BenchRun) -> None:
    """Measure the points that are missing, one catalogue after the other."""
    if not PYTHON.exists():
        raise click.ClickException(f"{PYTHON} is missing; run: make .venv/bench/ready")
    for users, items in ((USERS, ITEMS), (MANY_USERS, many_items(run))):
        missing = run.points.missing(SECTION, keys(items, run.rounds))
        if missing:
            measure(run, run.random("gmf", 64, users, items), missing)


def keys(items: int, rounds: int) -> list[Key]:
    """The points of a catalogue, every second round in reverse order."""
    return [
        {"model": f"gmf 64, {items:,} items", "way": way, "round": number}
        for number in range(rounds)
        for way in WAYS[:: -1 if number % 2 else 1]
    ]


def measure(run: BenchRun, recommender: Recommender, missing: list[Key]) -> None:
    factors = run.folder / f"{recommender.name}.npz"
    write_factors(factors, recommender)
    module = recommender.exported.query / str(recommender.exported.version) / "model.pt"
    with (
        worker(PYTHON, "implicit", factors, 1) as one_thread,
        worker(PYTHON, "implicit", factors, 0) as default,
        worker(sys.executable, "torchscript", module, 1) as ours,
        tritonserver(run, recommender.repository, f"{recommender.name}_query") as triton,
    ):
        workers = dict(zip(WAYS, (one_thread, default, ours), strict=False))
        asyncio.run(rounds(run, Client(triton, recommender), workers, missing))


def write_factors(path: Path, recommender: Recommender) -> None:
    """The factors of a GMF, and the items that users have seen, for implicit."""
    part: Any = recommender.run.model.catalogue().parts[0]
    known = recommender.run.known
    np.savez(
        path,
        user_factors=part.user_embedding.weight.detach().numpy(),
        item_factors=part.item_factors.detach().numpy(),
        indptr=known.indptr.numpy(),
        items=known.items.numpy(),
    )


@contextlib.contextmanager
def worker(python: str | Path, kind: str, file: Path, threads: int) -> Iterator[Ask]:
    """A process of workers.py."""
    command = [str(python), str(PROGRAM), kind, str(file), str(threads)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdin is not None
    assert started.stdout is not None
    stdin, stdout = started.stdin, started.stdout

    def ask(users: list[int]) -> Any:
        stdin.write(json.dumps(users) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise click.ClickException(f"the worker {kind} ended; its error is above")
        return json.loads(line)

    try:
        yield ask
    finally:
        stdin.close()
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


async def rounds(run: BenchRun, client: Client, workers: dict[str, Ask], missing: list[Key]) -> None:
    user = client.user()
    expected = set((await client.lone_user(user))[0])
    for way, ask in workers.items():
        if len(expected & set(ask([user])[1])) < DEFAULT_K - 2:  # rounding may change the last places
            raise click.ClickException(f"{client.name}: {way} answers other items than Triton")
    loads: dict[str, Callable[[], Awaitable[Times]]] = {
        way: partial(calls, client, ask, run.seconds) for way, ask in workers.items()
    }
    loads[WAYS[-1]] = lambda: timed(lambda: client.lone_user(client.user()), run.seconds)
    warm = set[str]()
    with run.steps(str(missing[0]["model"]), len(missing)) as advance:
        for key in missing:
            way = str(key["way"])
            if way not in warm:
                await loads[way]()
                warm.add(way)
            times = await loads[way]()
            figures = {"requests": len(times), "requests_per_s": len(times) / sum(times), **latency(times)}
            run.points.add(SECTION, key, figures)
            advance(1)


async def calls(client: Client, ask: Ask, seconds: float) -> Times:
    """Seconds of as many calls of a worker as take about `seconds`."""
    one = max(1e-6, ask([client.user()])[0][0])
    count = min(MOST_CALLS, max(3, int(seconds / one)))
    times: Times = ask([client.user() for _ in range(count)])[0]
    return times
