"""`ncf evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from ncf.config import DEVICES
from ncf.errors import InputError

PATH = click.Path(path_type=Path)


@click.command(short_help="Rank held-out items, beside popularity.")
@click.option("--run", "run_directory", type=PATH, required=True, help="A run directory of `ncf train`.")
@click.option("--data", type=PATH, required=True, help="The data it was trained on; its held-out items are ranked.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
def evaluate(run_directory: Path, data: Path, as_json: bool, device: str) -> None:
    """Rank each user's held-out item: among 99 negatives, and among the whole catalogue.

    Ties count against the model, a negative equal to the held-out item is masked, items seen in training are removed
    from the catalogue. Popularity, on the same data, is the line to beat.

    \b
    Example:
      ncf evaluate --run runs/first --data ratings.csv
    """
    from ncf.checkpoint import load_run
    from ncf.evaluate import evaluate as evaluate_split
    from ncf.splits import load_split
    from ncf.train import choose_device

    run = load_run(run_directory, choose_device(device))
    split = load_split(data, run.config.columns, run.config.seed).reindex(run.users, run.items)
    if not len(split.held_out):
        raise InputError(f"{data} holds no held-out item of a user and item that {run_directory} knows")
    report = evaluate_split(run.model, split, run.config.seed)
    if as_json:
        click.echo(json.dumps({"users": len(split.held_out), "model_kind": run.config.model, **report}, indent=2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    for protocol, title in (
        ("sampled", "held-out item among its negatives"),
        ("full", "held-out item among the whole catalogue, seen items removed"),
    ):
        table = Table()
        table.add_column("")
        for metric in report["model"][protocol]:
            table.add_column(metric, justify="right")
        for name, label in (("model", run.config.model), ("popularity", "popularity")):
            table.add_row(label, *(f"{value:.4f}" for value in report[name][protocol].values()))
        console.print(f"{title} ({len(split.held_out):,} users)")
        console.print(table)
