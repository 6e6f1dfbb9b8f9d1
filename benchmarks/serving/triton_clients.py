"""Three clients with which the data plane could send requests to Triton, compared on one tritonserver.

Each client sends the same requests (rows of user_index and item_index, with random indices) and reads the scores as
numbers. Rounds are interleaved, so that a drift of the machine's speed cancels out; medians over rounds are printed.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.rig.run import scratch_run
from benchmarks.rig.timing import latency
from benchmarks.rig.tritonserver import tritonserver
from serve.supervisor.ports import LOOPBACK
from serve.triton import tensors
from serve.triton.address import TritonAddress
from serve.triton.pool import TritonPool

Call = Callable[[list[int], list[int]], Awaitable[Any]]
CLIENTS = ("own pool", "tritonclient.http.aio", "tritonclient.grpc.aio")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--repository", type=click.Path(path_type=Path, exists=True), default=Path("model_repository"))
@click.option("--model", default="ncf_food_model", help="A scoring model of `ncf export`.")
@click.option("--rounds", default=5, help="Interleaved rounds.")
@click.option("--seconds", default=2.0, help="Seconds a point and round.")
def main(repository: Path, model: str, rounds: int, seconds: float) -> None:
    """Compare three clients of Triton (after `make demo`).

    \b
    Example:
      make bench-clients
    """
    uvloop.install()
    with scratch_run() as run, tritonserver(run, repository, model) as triton:
        asyncio.run(compare(model, triton.ports["http"], triton.ports["grpc"], rounds, seconds))


async def compare(model: str, http_port: int, grpc_port: int, rounds: int, seconds: float) -> None:
    http = tritonclient.http.aio.InferenceServerClient(f"{LOOPBACK}:{http_port}", conn_limit=256)
    grpc = tritonclient.grpc.aio.InferenceServerClient(f"{LOOPBACK}:{grpc_port}")
    async with http, grpc:
        pool = TritonPool(lambda: TritonAddress(LOOPBACK, http_port))
        calls = dict(zip(CLIENTS, callers(model, pool, http, grpc), strict=True))
        await measure(calls, rounds, seconds)


async def measure(calls: dict[str, Call], rounds: int, seconds: float) -> None:
    points = [(rows, concurrency) for rows in (1, 100) for concurrency in (1, 16)]
    results: dict[tuple[str, int, int], list[tuple[float, float, float, float]]] = {}
    for name, call in calls.items():
        await load(call, 1, 1, 0.5)
        check = (await call([3, 5], [8, 9]))[:2]
        Console(stderr=True).print(f"{name} answers {list(check)}", highlight=False)
    for _ in track(range(rounds), "rounds", console=Console(stderr=True)):
        for rows, concurrency in points:
            for name, call in calls.items():
                results.setdefault((name, rows, concurrency), []).append(await load(call, rows, concurrency, seconds))
    table = Table("client", *(f"{rows} row{'s' * (rows > 1)}, c={c}" for rows, c in points))
    for name in CLIENTS:
        table.add_row(name, *(show(results[name, rows, c]) for rows, c in points))
    console = Console(width=150, highlight=False)
    console.print("requests/s · p50 ms · p99 ms · CPU µs of the client a request (medians of rounds)")
    console.print(table)


def show(rounds: list[tuple[float, float, float, float]]) -> str:
    rate, p50, p99, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
    return f"{rate:,.0f} · {p50:.2f} · {p99:.2f} · {cpu:.0f}"


async def load(call: Call, rows: int, concurrency: int, seconds: float) -> tuple[float, float, float, float]:
    """Requests/s, p50 and p99 in ms, and CPU µs of this process a request."""
    times: list[float] = []
    requests = [([random.randrange(300) for _ in range(rows)],) * 2 for _ in range(64)]
    began, cpu = time.perf_counter(), time.process_time()

    async def one(number: int) -> None:
        while (start := time.perf_counter()) - began < seconds:
            user, item = requests[number % 64]
            await call(user, item)
            times.append(time.perf_counter() - start)
            number += 7

    await asyncio.gather(*(one(number) for number in range(concurrency)))
    elapsed, used = time.perf_counter() - began, time.process_time() - cpu
    found = latency(times)
    return len(times) / elapsed, found["p50_ms"], found["p99_ms"], 1e6 * used / len(times)


def callers(model: str, pool: TritonPool, http: Any, grpc: Any) -> tuple[Call, Call, Call]:
    """A call for each client: from user and item indices to scores as numbers."""

    async def own(user: list[int], item: list[int]) -> array[float]:
        columns = {"user_index": array("q", user), "item_index": array("q", item)}
        request = tensors.encode_int64(len(user), (1,), columns)
        answer = await pool.request(b"POST", f"/v2/models/{model}/infer", request.body, request.header_length)
        return tensors.decode_outputs(answer.body, answer.header_length)["score"]

    def inputs(kind: Any, user: list[int], item: list[int]) -> list[Any]:
        made = []
        for name, values in (("user_index", user), ("item_index", item)):
            tensor = kind(name, [len(values), 1], "INT64")
            tensor.set_data_from_numpy(np.array(values, np.int64)[:, None])
            made.append(tensor)
        return made

    async def by_http(user: list[int], item: list[int]) -> Any:
        answer = await http.infer(model, inputs(tritonclient.http.InferInput, user, item))
        return answer.as_numpy("score").ravel()

    async def by_grpc(user: list[int], item: list[int]) -> Any:
        answer = await grpc.infer(model, inputs(tritonclient.grpc.InferInput, user, item))
        return answer.as_numpy("score").ravel()

    return own, by_http, by_grpc


if __name__ == "__main__":
    main()
