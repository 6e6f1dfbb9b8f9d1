"""Benchmark of ranking a whole catalogue beside the recommend of the library implicit, with the same factors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ROOT
from benchmarks.ranking.catalogue import ITEMS, MANY_USERS, USERS, Client
from benchmarks.rig.rig import (
    Bench,
    Call,
    Recommender,
    Report,
    Times,
    interleaved,
    milliseconds,
    random_recommender,
    ratios,
    spread,
    timed,
)
from benchmarks.rig.tritonserver import tritonserver
from ncf.training.config import DEFAULT_K
from serve.supervisor.ports import LOOPBACK
from serve.triton.address import TritonAddress
from serve.triton.pool import TritonPool

PEERS = ROOT / "benchmarks/peers/workers.py"


@contextlib.contextmanager
def worker(python: str | Path, kind: str, file: Path, threads: int) -> Iterator[Callable[[list[int]], Any]]:
    """A worker of workers.py: user indices in, seconds and the last user's items out."""
    command = [str(python), str(PEERS), kind, str(file), str(threads)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdin is not None
    assert started.stdout is not None
    stdin, stdout = started.stdin, started.stdout

    def ask(users: list[int]) -> Any:
        stdin.write(json.dumps(users) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the worker {kind} ended; see its message above")
        return json.loads(line)

    try:
        yield ask
    finally:
        stdin.close()
        started.wait(20)


def against_implicit(bench: Bench, peers: Path) -> list[Report]:
    """Section B."""
    report = Report(
        f"B. one user's top {DEFAULT_K}, ms at p50 (smallest–largest round); implicit is in process, with the same "
        "factors",
        ("gmf 64", "implicit, 1 thread", "implicit, default", "module in process, 1 thread", "top-K through Triton",
         "implicit 1 thread / module", "implicit 1 thread / Triton"),
    )  # fmt: skip
    for users, items in ((USERS, ITEMS), (MANY_USERS, bench.most_items)):
        recommender = random_recommender(bench, "gmf", 64, users, items)
        catalogue, known = recommender.run.model.catalogue(), recommender.run.known
        part: Any = catalogue.parts[0]
        factors = bench.folder / f"{recommender.name}.npz"
        np.savez(
            factors,
            user_factors=part.user_embedding.weight.detach().numpy(),
            item_factors=part.item_factors.detach().numpy(),
            indptr=known.indptr.numpy(),
            items=known.items.numpy(),
        )
        module = recommender.exported.topk / str(recommender.exported.version) / "model.pt"
        with (
            worker(peers, "implicit", factors, 1) as one,
            worker(peers, "implicit", factors, 0) as default,
            worker(sys.executable, "torchscript", module, 1) as ours,
            tritonserver(bench, recommender.repository, f"{recommender.name}_topk") as server,
        ):
            workers = {"implicit, 1 thread": one, "implicit, default": default, "module": ours}
            results = asyncio.run(_peers(bench, server.ports["http"], recommender, workers))
        gains = [ratios(results["implicit, 1 thread"], results[name]) for name in ("module", "Triton")]
        report.rows.append(
            (
                f"{items:,} items",
                *(spread(milliseconds(way)) for way in results.values()),
                *(spread(gain) for gain in gains),
            )
        )
        report.record[recommender.name] = {name: milliseconds(way) for name, way in results.items()}
    return [report]


async def _peers(
    bench: Bench, port: int, recommender: Recommender, workers: dict[str, Callable[[list[int]], Any]]
) -> dict[str, list[Times]]:
    client = Client(TritonPool(TritonAddress(LOOPBACK, port)), recommender)
    user = client.user()
    expected = set((await client.topk(user))[0])
    for name, ask in workers.items():
        if len(expected & set(ask([user])[1])) < DEFAULT_K - 2:  # rounding may change the last places
            raise RuntimeError(f"{recommender.name}: {name} ranks otherwise than Triton does")

    def way(ask: Callable[[list[int]], Any]) -> Call:
        async def call() -> Times:
            one = max(1e-6, ask([client.user()])[0][0])
            times: Times = ask([client.user() for _ in range(min(2000, max(3, int(bench.seconds / one))))])[0]
            return times

        return call

    ways: dict[str, Call] = {name: way(ask) for name, ask in workers.items()}
    ways["Triton"] = lambda: timed(lambda: client.topk(client.user()), bench.seconds)
    return await interleaved(bench, recommender.name, ways)
