"""Top-K through Triton beside scoring every item, implicit and TorchServe, and what the whole `serve` adds to it.

All comparisons are made within one run, in interleaved rounds, warm, with fresh random users. Weights are random.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.ranking.catalogue import against_every_item
from benchmarks.ranking.device import on_the_device
from benchmarks.ranking.ids import id_files
from benchmarks.ranking.implicit import against_implicit
from benchmarks.ranking.serving import pairs, whole_serve
from benchmarks.rig.rig import Bench, Report

SECTIONS = "ABCDEF"
PEERS = Path(".venv/bench/bin/python")


def chosen(context: click.Context, option: click.Parameter, value: str) -> str:
    letters = "".join(value.upper().replace(",", " ").split())
    if not letters or set(letters) - set(SECTIONS):
        raise click.BadParameter(f"'{value}'; choose some of {','.join(SECTIONS)}")
    return letters


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--only", default=",".join(SECTIONS), callback=chosen, help="Sections to run.")
@click.option(
    "--quick", is_flag=True, help="Fewer and shorter rounds; 100,000 items for a million, a million ids for ten."
)
@click.option("--rounds", type=click.IntRange(1), help="Interleaved rounds.  [default: 7, quick 2]")
@click.option("--seconds", type=float, help="Seconds a point and round.  [default: 1, quick 0.3]")
@click.option("--device", type=click.Choice(("cpu", "gpu")), default="cpu", help="Where Triton runs the models.")
@click.option("--peers", type=click.Path(path_type=Path), default=PEERS, help="Python that has requirements-bench.txt.")
@click.option("--torchserve", is_flag=True, help="Measure TorchServe, too; it needs Java.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures of every round as JSON.")
def main(
    only: str, quick: bool, rounds: int | None, seconds: float | None, device: str, peers: Path, torchserve: bool,
    output: Path | None,
) -> None:  # fmt: skip
    """Measure ranking whole catalogues, as ratios within one run.

    \b
    A  top-K through Triton against scoring every item through Triton
    B  the same against implicit's recommend
    C  the whole serve against its Triton
    D  JSON pairs by raw ids, beside TorchServe with --torchserve
    E  id files of 10 million ids
    F  Triton's own time for a million items, and users/s at batch 256

    \b
    Examples:
      make bench-topk
      python -m benchmarks.ranking --quick --only A,C --output figures.json
      python -m benchmarks.ranking --only A,F --device gpu
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that no server stays behind
    uvloop.install()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    folder = Path(tempfile.mkdtemp(prefix="bench-topk-"))
    tables = Console(width=150, highlight=False)
    figures: dict[str, Any] = {}
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bench = Bench(
                folder, rounds or (2 if quick else 7), seconds or (0.3 if quick else 1.0), quick, device, progress
            )
            machine = describe(bench)
            sections: dict[str, Callable[[], list[Report]]] = {
                "A": lambda: against_every_item(bench),
                "B": lambda: against_implicit(bench, peers),
                "C": lambda: whole_serve(bench),
                "D": lambda: pairs(bench, peers if torchserve else None),
                "E": lambda: id_files(bench),
                "F": lambda: on_the_device(bench),
            }
            tables.print(", ".join(f"{name} {value}" for name, value in machine.items()))
            for letter in only:
                if letter == "B" and not peers.exists():
                    tables.print(f"B left out: no {peers}; `make bench-topk` makes it, or name another with --peers")
                    continue
                for report in sections[letter]():
                    show(tables, report)
                    met = {name: verdict for name, verdict in report.targets if verdict is not None}
                    figures[report.title] = {**report.record, "targets met": met}
                    if output is not None:
                        output.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe(bench: Bench) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if bench.device == "gpu" else "cpu",
        "backend": bench.backend,
        "cores": os.cpu_count(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "rounds": bench.rounds,
        "seconds a point": bench.seconds,
    }


def show(console: Console, report: Report) -> None:
    table = Table(title=report.title, title_justify="left", title_style="bold")
    for number, column in enumerate(report.columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in report.rows:
        table.add_row(*row)
    console.print(table)
    for name, met in report.targets:
        console.print(f"target: {name}: {'not judged here' if met is None else 'met' if met else 'NOT met'}")
    console.print()


if __name__ == "__main__":
    main()
