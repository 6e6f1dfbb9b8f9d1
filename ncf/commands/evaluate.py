"""`ncf evaluate`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from ncf.commands.tables import print_tables
from ncf.errors import InputError
from ncf.training.config import DEVICES

PATH = click.Path(path_type=Path)


@click.command(short_help="Rank held-out items, and compare with popularity, EASE and iALS.")
@click.option("--run", "run_directory", type=PATH, required=True, help="A run directory of `ncf train`.")
@click.option("--data", type=PATH, required=True, help="The data of the training; its held-out items are ranked.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document with more details instead of tables.")
@click.option(
    "--report",
    "report_file",
    type=PATH,
    help="Also write a page with plots: an .html file, which is replaced if it exists.",
)
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
def evaluate(run_directory: Path, data: Path, as_json: bool, report_file: Path | None, device: str) -> None:
    """Rank the held-out items of each user among 99 negatives, and among the whole catalogue.

    Ties count against the model. A negative equal to the held-out item is ignored. Items that the user has seen in
    training and the user's other held-out items are removed from the catalogue.

    Popularity, EASE and iALS, fitted on the same training data, are ranked as well. Each has the lead of the model
    over it, and the z of that lead from a paired test over users: beyond 2 or -2 it is hardly chance. A baseline that
    would need too much memory or work is left out, and the reason is printed.

    \b
    Examples:
      ncf evaluate --run runs/first --data ratings.csv
      ncf evaluate --run runs/first --data ratings.csv --report first.html
      ncf evaluate --run runs/first --data ratings.csv --json > first.json
    """
    from ncf.data.load import load_split
    from ncf.evaluation.comparison import compare
    from ncf.training.run import choose_device
    from ncf.training.run_directory import held_out_name, load_run, read_epochs

    run = load_run(run_directory, choose_device(device))
    if report_file is not None:
        from ncf.evaluation.page import check_writable, write_report

        check_writable(report_file)
    split = load_split(data, run.config.split)
    if held_out_name(split) != run.held_out:
        warning = (
            f"{data} holds out other items than the data {run_directory} was trained on: the model may have been "
            "trained on some of them, so its figures may be too high"
        )
        click.echo(f"WARNING: {warning}", err=True)
    split = split.reindex(run.users, run.items)
    if not len(split.held_out):
        raise InputError(f"{data} holds no held-out item of a user and item that {run_directory} knows")
    stderr = Console(stderr=True, highlight=False)
    with stderr.status("") as status:
        comparison = compare(run.model, split, run.config.seed, status.update)
    document = comparison.document(run.config.model)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        print_tables(document)
    if report_file is not None:
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip()
        about = {"run": str(run_directory), "data": str(data), "evaluated": now}
        settings = {name: value for name, value in run.config.to_dict().items() if value is not None}
        settings.pop("columns")
        write_report(report_file, document, read_epochs(run.path / "metrics.jsonl"), about, settings)
        stderr.print(f"wrote {report_file}", soft_wrap=True)
