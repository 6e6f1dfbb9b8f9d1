"""`ncf evaluate`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from ncf.commands.reading import PATH as DATA_PATH
from ncf.commands.reading import without_options
from ncf.commands.tables import print_tables
from ncf.errors import InputError
from ncf.training.config import DEVICES, EVALUATION_AMONG

PATH = click.Path(path_type=Path)


@click.command(short_help="Rank held-out items, and compare with popularity, EASE and iALS.")
@click.option("--run", "run_directory", type=PATH, required=True, help="A run directory of `ncf train`.")
@click.option(
    "--data", type=DATA_PATH, multiple=True,
    help="Other data, read as in the training; can be repeated. [default: the held-out items of the run]",
)  # fmt: skip
@click.option(
    "--negatives-among", type=click.Choice(EVALUATION_AMONG), default="unseen", show_default=True,
    help="The negatives: unseen items alike, or in proportion to their popularity.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document with more details instead of tables.")
@click.option(
    "--report",
    "report_file",
    type=PATH,
    help="Also write a page with plots: an .html file, which is replaced if it exists.",
)
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
def evaluate(
    run_directory: Path, data: tuple[Path, ...], negatives_among: str, as_json: bool, report_file: Path | None,
    device: str,
) -> None:  # fmt: skip
    """Rank the held-out items of each user among 99 negatives, and among the whole catalogue.

    Ties count against the model. A negative equal to the held-out item is ignored. Items that the user has seen in
    training and the user's other held-out items are removed from the catalogue. If a user has several held-out items,
    they are also ranked together, in one list of the catalogue, and these figures are means over users.

    Popularity, EASE and iALS, fitted on the interactions that the model was fitted on, are ranked as well. Each has the
    lead of the model over it, which is the difference of their figures, and ± half of its 95 % confidence interval, by
    a paired test in which the held-out items of a user are one observation. A baseline that would need too much memory
    or work is left out, and the reason is printed. --json and --report have more metrics, and the leads in all of them.

    \b
    Examples:
      ncf evaluate --run runs/first
      ncf evaluate --run runs/first --report first.html
      ncf evaluate --run runs/first --json > first.json
      ncf evaluate --run runs/first --data ratings.csv
      ncf evaluate --run runs/first --negatives-among popular
    """
    from ncf.data.load import load_split
    from ncf.training.run import choose_device, compare_run
    from ncf.training.run_directory import held_out_name, load_run, own_split, read_epochs

    run = load_run(run_directory, choose_device(device))
    if report_file is not None:
        from ncf.evaluation.page import check_writable, write_report

        check_writable(report_file)
    if not data:
        split, shown = own_split(run), "the run's own data"
    else:
        with without_options(run_directory):
            split, shown = load_split(data, run.config.split), ", ".join(map(str, data))
        if held_out_name(split) != run.held_out:
            warning = (
                f"{shown} holds out other items than the data {run_directory} was trained on: the model may have been "
                "trained on some of them, so its figures may be too high"
            )
            click.echo(f"WARNING: {warning}", err=True)
        split = split.reindex(run.users, run.items)
    if not len(split.held_out):
        raise InputError(f"{shown} holds no held-out item of a user and item that {run_directory} knows")
    stderr = Console(stderr=True, highlight=False)
    with stderr.status("") as status:
        comparison = compare_run(run, split, status.update, negatives_among)
    document = comparison.document(run.config.model)
    if negatives_among != "unseen":
        document["negatives_among"] = negatives_among
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        print_tables(document)
        if negatives_among == "popular":
            click.echo("The negatives are drawn in proportion to their popularity.")
    if report_file is not None:
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip()
        about = {"run": str(run_directory), "data": shown, "evaluated": now}
        if negatives_among == "popular":
            about["negatives"] = "drawn in proportion to their popularity"
        settings = {name: value for name, value in run.config.to_dict().items() if value is not None}
        for name in ("columns", "reading"):
            settings.pop(name)
        write_report(report_file, document, read_epochs(run.path / "metrics.jsonl"), about, settings)
        stderr.print(f"wrote {report_file}", soft_wrap=True)
