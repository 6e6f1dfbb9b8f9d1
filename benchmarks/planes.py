"""The whole `serve` beside Triton's own SageMaker endpoint and TorchServe, under load from wrk.

All servers have the same exported model and are up at the same time, but only one is loaded at a time: rounds go from
one to the next, and the ratios are those within a round. Each round sends 64 bodies in turn, the same to all servers.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
import torch
from planes_pin import pinned
from planes_servers import native, whole_serve
from planes_wrk import Cell, Measured, Target, ask, measure, require_wrk
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from topk_rig import Bench, Recommender, Report, random_recommender, spread
from topk_torchserve import torchserve

PEERS = Path(".venv/bench/bin/python")
USERS, ITEMS = 6_040, 3_706
PAIRS, CONNECTIONS = (1, 100), (1, 16)
BODIES = 64
# Of native's throughput at 16 connections, by pairs a request.
SHARE = {1: 0.5, 100: 0.65}
ADDED_MS, TIMES_TORCHSERVE = 0.15, 2
# Java compiles while it runs.
TORCHSERVE_WARM_UP = 4


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", type=click.IntRange(1), default=5, help="Interleaved rounds.")
@click.option("--seconds", type=click.IntRange(1), default=4, help="Seconds of load a server, point and round.")
@click.option("--model", type=click.Choice(("gmf", "mlp", "neumf")), default="neumf", help="The model that is served.")
@click.option("--factors", type=click.IntRange(1), default=32, help="Its factors.")
@click.option(
    "--serve",
    "program",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True),
    default=Path(sys.executable).parent / "serve",
    show_default="the one beside this Python",
    help="The `serve` to measure; another checkout's, perhaps.",
)
@click.option("--torchserve/--no-torchserve", "with_torchserve", default=True, help="Measure JSON beside TorchServe.")
@click.option("--peers", type=click.Path(path_type=Path), default=PEERS, help="Python that has requirements-bench.txt.")
@click.option("--pin", is_flag=True, help="Instead: what more cores give, `serve` pinned to 1, 2, 4 and 8 of them.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures of every round as JSON.")
def main(
    rounds: int, seconds: int, model: str, factors: int, program: Path, with_torchserve: bool, peers: Path, pin: bool,
    output: Path | None,
) -> None:  # fmt: skip
    """Measure what `serve` costs and gains, under load from wrk.

    \b
    KServe-v2 JSON passed through, beside Triton's own SageMaker endpoint
    JSON pairs by raw ids, beside TorchServe
    --pin: requests/s on more and more cores

    \b
    Examples:
      make bench-planes
      python benchmarks/planes.py --no-torchserve --rounds 3 --seconds 2 --output figures.json
      python benchmarks/planes.py --pin
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that no server stays behind
    require_wrk()
    if with_torchserve and not pin and (not peers.exists() or shutil.which("java") is None):
        click.echo(f"TorchServe needs {peers} (make .venv/bench/ready) and java; or give --no-torchserve", err=True)
        sys.exit(2)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    folder = Path(tempfile.mkdtemp(prefix="bench-planes-"))
    tables = Console(width=150, highlight=False)
    record: dict[str, Any] = {}
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bench = Bench(folder, rounds, seconds, False, "cpu", progress)
            machine = describe(bench, f"{model}, {factors} factors, {USERS:,} users × {ITEMS:,} items")
            tables.print("; ".join(f"{name} {value}" for name, value in machine.items()), soft_wrap=True)
            recommender = random_recommender(bench, model, factors, USERS, ITEMS)
            if pin:
                most = CONNECTIONS[-1]
                cells = {
                    "KServe-v2 JSON, 1 pair": Cell(1, most, partial(many, partial(kserve_body, recommender, 1))),
                    "JSON by raw ids, 100 pairs": Cell(100, most, partial(many, partial(json_body, recommender, 100))),
                }
                reports = pinned(bench, recommender, program, cells)
            else:
                with whole_serve(bench, recommender, program) as served:
                    reports = pass_through(bench, recommender, served)
                    reports += raw_ids(bench, recommender, served, peers if with_torchserve else None)
            for report in reports:
                show(tables, report)
                record[report.title] = {**report.record, "targets met": dict(report.targets)}
            if output is not None:
                output.write_text(json.dumps({"machine": machine, **record}, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe(bench: Bench, model: str) -> dict[str, Any]:
    return {
        "cores": f"{len(os.sched_getaffinity(0))}, shared with wrk",
        "backend": bench.backend,
        "model": model,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "rounds": bench.rounds,
        "seconds a round": bench.seconds,
    }


def pass_through(bench: Bench, recommender: Recommender, served: Target) -> list[Report]:
    """The same KServe-v2 body to both, and the same answer from both."""
    with native(bench, recommender) as triton:
        for pairs in PAIRS:
            body = kserve_body(recommender, pairs)
            theirs, ours = ask(triton, body)["outputs"], ask(served, body)["outputs"]
            if not same(theirs, ours, pairs):
                raise click.ClickException(f"not the same answer: native {theirs}, serve {ours}"[:500])
        cells = [
            Cell(pairs, c, partial(many, partial(kserve_body, recommender, pairs)))
            for pairs in PAIRS
            for c in CONNECTIONS
        ]
        results = measure(bench, "KServe-v2 JSON, serve and native", [triton, served], cells)
    reports = []
    for pairs in PAIRS:
        found = [result for result in results if result.cell.pairs == pairs]
        report = table(f"KServe-v2 JSON passed through, {plural(pairs)} a request", found)
        for result in found:
            share, added = result.ratio("serve", "native"), result.added("serve", "native")
            connections = result.cell.connections
            report.rows.append((f"serve / native, c={connections}", "", spread(share), "", "", ""))
            if connections == 1:
                report.rows.append(("serve − native, c=1", "", "", spread(added, 3), "", ""))
                met = statistics.median(added) <= ADDED_MS
                report.targets.append((f"at most {ADDED_MS} ms more at p50, 1 connection", met))
            else:
                met = statistics.median(share) >= SHARE[pairs]
                report.targets.append(
                    (f"at least {SHARE[pairs]} of native's requests/s, {connections} connections", met)
                )
        reports.append(report)
    reports.append(cpu_table("KServe-v2 JSON passed through", results))
    return reports


def raw_ids(bench: Bench, recommender: Recommender, served: Target, peers: Path | None) -> list[Report]:
    """The same JSON to both, and the same scores from both."""
    with contextlib.ExitStack() as started:
        targets = [served]
        if peers is not None:
            port = started.enter_context(torchserve(bench, peers, recommender))
            targets.append(Target("TorchServe", port, "/predictions/pairs"))
        for pairs in PAIRS:
            body = json_body(recommender, pairs)
            scores = [ask(target, body)["scores"] for target in targets]
            if not all(len(each) == pairs and np.allclose(each, scores[0], atol=1e-5) for each in scores):
                raise click.ClickException(f"not the same scores: {scores}"[:500])
        cells = [
            Cell(pairs, c, partial(many, partial(json_body, recommender, pairs)))
            for pairs in PAIRS
            for c in CONNECTIONS
        ]
        results = measure(bench, "JSON by raw ids", targets, cells, TORCHSERVE_WARM_UP if peers else 1)
    reports = []
    for pairs in PAIRS:
        found = [result for result in results if result.cell.pairs == pairs]
        report = table(f"JSON by raw ids, {plural(pairs)} a request", found)
        for result in found if peers else []:
            gain = result.ratio("serve", "TorchServe")
            connections = result.cell.connections
            report.rows.append((f"serve / TorchServe, c={connections}", "", spread(gain), "", "", ""))
            name = f"at least {TIMES_TORCHSERVE} × TorchServe's requests/s, c={connections}"
            report.targets.append((name, statistics.median(gain) >= TIMES_TORCHSERVE))
        reports.append(report)
    reports.append(cpu_table("JSON by raw ids", results))
    return reports


def many(body: Callable[[], bytes]) -> list[bytes]:
    """Bodies for one round: more ids than one, so that nothing is fast for having been asked a moment ago."""
    return [body() for _ in range(BODIES)]


def kserve_body(recommender: Recommender, pairs: int) -> bytes:
    columns = {"user_index": recommender.num_users, "item_index": recommender.num_items}
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [pairs, 1], "data": random.choices(range(count), k=pairs)}
        for name, count in columns.items()
    ]
    return orjson.dumps({"inputs": inputs})


def json_body(recommender: Recommender, pairs: int) -> bytes:
    users, items = recommender.run.users.ids, recommender.run.items.ids
    asked = [{"user_id": random.choice(users), "item_id": random.choice(items)} for _ in range(pairs)]
    return orjson.dumps({"pairs": asked})


def same(theirs: list[dict[str, Any]], ours: list[dict[str, Any]], pairs: int) -> bool:
    """Whether two lists of output tensors say the same, scores to the last digits."""
    data = [[(tensor.pop("data"), tensor)[0] for tensor in each] for each in (theirs, ours)]
    sized = all(len(numbers) == pairs for numbers in data[0])
    return theirs == ours and sized and all(np.allclose(a, b, atol=1e-5) for a, b in zip(*data, strict=True))


def plural(pairs: int) -> str:
    return "1 pair" if pairs == 1 else f"{pairs} pairs"


def table(title: str, results: list[Measured]) -> Report:
    columns = ("median (smallest–largest round)", "c", "requests/s", "p50 ms", "p99 ms", "CPU µs a request")
    report = Report(title, columns)
    for result in results:
        for name in result.rounds:
            cpu = spread(result.cpu(name), 0) if any(result.cpu(name)) else "–"
            rate, p50, p99 = (result.values(name, of) for of in ("rate", "p50_ms", "p99_ms"))
            row = (name, str(result.cell.connections), spread(rate, 0), spread(p50, 3), spread(p99), cpu)
            report.rows.append(row)
    others = spread([each for result in results for each in result.others()])
    report.rows.append(("cores busy with other things", "", others, "", "", ""))
    report.record["points"] = [result.record() for result in results]
    return report


def cpu_table(what: str, results: list[Measured]) -> Report:
    """Where the time goes at the most connections, for the servers whose processes are known."""
    roles = ("front", "tritonserver", "model")
    connections = CONNECTIONS[-1]
    report = Report(f"CPU µs a request by process, {what}, c={connections}", ("", "pairs", *roles))
    for result in results:
        for name in result.rounds if result.cell.connections == connections else ():
            if any(result.cpu(name)):
                parts = [spread(result.cpu(name, role), 1) for role in roles]
                report.rows.append((name, str(result.cell.pairs), *parts))
    return report


def show(console: Console, report: Report) -> None:
    drawn = Table(*report.columns, title=report.title, title_justify="left", title_style="bold")
    for column in drawn.columns[1:]:
        column.justify = "right"
    for row in report.rows:
        drawn.add_row(*row)
    console.print(drawn)
    for name, met in report.targets:
        console.print(f"target: {name}: {'met' if met else 'NOT met'}")
    console.print()


if __name__ == "__main__":
    main()
