"""The `ncf` command."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ncf.config import DEFAULT_K, DEVICES, MODEL_NAMES, PRESETS
from ncf.errors import NO_TORCH, InputError
from ncf.sample import CATALOGUES

PATH = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="ncf-triton")
def cli() -> None:
    """Train Neural Collaborative Filtering models and put them into a Triton model repository.

    \b
    Examples:
      ncf sample food --output food.csv
      ncf train --data food.csv --output runs/food
      ncf evaluate --run runs/food --data food.csv
      ncf export --run runs/food --repository model_repository --name ncf_food_model
      SERVE_MODEL_REPOSITORY=model_repository serve
    """


@cli.command(short_help="Write a generated catalogue with a planted taste.")
@click.argument("catalogue", type=click.Choice(sorted(CATALOGUES)))
@click.option("--output", type=PATH, required=True, help="The file to write: .csv, .tsv or .parquet.")
def sample(catalogue: str, output: Path) -> None:
    """Write a generated catalogue with a planted taste structure (see ncf/sample.py).

    \b
    Example:
      ncf sample fashion --output fashion.parquet
    """
    from ncf.interactions import SEPARATORS, SUFFIXES
    from ncf.sample import generate

    suffix = output.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{output} ends in '{output.suffix}'; choose {', '.join(SUFFIXES)}")
    if output.exists():
        raise InputError(f"{output} exists already; choose another --output, or delete it")
    frame = generate(CATALOGUES[catalogue])
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".parquet":
            frame.write_parquet(output)
        else:
            frame.write_csv(output, separator=SEPARATORS[suffix])
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}; choose another --output") from error
    users, items = frame["user_id"].n_unique(), frame["item_id"].n_unique()
    click.echo(f"wrote {output}: {len(frame):,} interactions of {users:,} users with {items:,} items")


@cli.command(short_help="Train a model and leave a run directory.")
@click.option("--data", type=PATH, required=True, help="A CSV, TSV or Parquet file, or a folder in the paper's format.")
@click.option("--output", type=PATH, required=True, help="The run directory to make.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Named settings to start from.")
@click.option("--model", type=click.Choice(MODEL_NAMES), help="[default: neumf]")
@click.option("--epochs", type=int, help="At most so many epochs. [default: 20]")
@click.option("--patience", type=int, help="Stop after so many epochs without a better one. [default: 4]")
@click.option("--batch-size", type=int, help="Samples a step, negatives included. [default: 8192]")
@click.option("--learning-rate", type=float, help="Adam's. [default: 0.003]")
@click.option("--num-factors", type=int, help="Size of the last layer, and of GMF's embeddings. [default: 16]")
@click.option("--num-layers", type=int, help="Layers of the MLP tower. [default: 3]")
@click.option("--num-train-negatives", type=int, help="Negatives a positive. [default: 4]")
@click.option("--dropout", type=float, help="Between the tower's layers. [default: 0]")
@click.option("--l2", type=float, help="Weight of the embeddings' mean squared length. [default: 0]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--user-column", help="[default: user_id]")
@click.option("--item-column", help="[default: item_id]")
@click.option("--weight-column", help="[default: weight, if there is one]")
@click.option("--timestamp-column", help="[default: timestamp, if there is one]")
def train(
    data: Path,
    output: Path,
    preset: str | None,
    device: str,
    user_column: str | None,
    item_column: str | None,
    weight_column: str | None,
    timestamp_column: str | None,
    **overrides: Any,
) -> None:
    """Train a model and leave a run directory.

    One item a user is held out for `ncf evaluate` (the latest, or a random one without timestamps), one more to choose
    the best epoch. Ctrl-C ends training early and keeps the best epoch so far.

    \b
    Examples:
      ncf train --data ratings.csv --output runs/first
      ncf train --data ratings.tsv --output runs/gmf --model gmf --num-factors 64 --user-column customer
      ncf train --data ml-1m/ --output runs/ml-1m --preset ml-1m
    """
    from ncf.config import configure
    from ncf.interactions import Columns
    from ncf.train import choose_device, train_run

    given = {"user_id": user_column, "item_id": item_column, "weight": weight_column, "timestamp": timestamp_column}
    columns = Columns(**{name: value for name, value in given.items() if value is not None})
    config = configure(preset, {**overrides, "columns": columns})
    result = train_run(data, output, config, choose_device(device))
    best = result.epochs[result.best_epoch - 1]
    click.echo(
        f"wrote {output}: best epoch {best.epoch} of {len(result.epochs)} ({result.stopped}), "
        f"hold-out HR@10 {best.hit_rate_at_10:.4f}, NDCG@10 {best.ndcg_at_10:.4f}"
    )


@cli.command(short_help="Rank held-out items, beside popularity.")
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


@cli.command(short_help="Write a run into a Triton model repository.")
@click.option("--run", "run_directory", type=PATH, required=True, help="A run directory of `ncf train`.")
@click.option("--repository", type=PATH, required=True, help="A Triton model repository; made if it is not there.")
@click.option("--name", required=True, help="Name of the recommender; NAME, NAME_topk and NAME_query are written.")
@click.option("--version", type=int, help="Version to write. [default: the next free one]")
@click.option("--k", type=int, default=DEFAULT_K, show_default=True, help="Most recommendations a request can ask for.")
@click.option("--items", "items_file", type=PATH, help="A CSV, TSV or Parquet file of what is known of the items.")
@click.option("--item-column", default="item_id", show_default=True, help="The column of --items with the item's id.")
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where Triton runs the models; auto: a GPU where the server finds one.",
)
def export(
    run_directory: Path,
    repository: Path,
    name: str,
    version: int | None,
    k: int,
    items_file: Path | None,
    item_column: str,
    device: str,
) -> None:
    """Write a run into a Triton model repository as TorchScript, checked against the trained model first.

    A running `serve` puts a new version of a recommender live by itself. The columns of --items, such as title and
    category, can be returned with recommendations and filtered by.

    \b
    Examples:
      ncf export --run runs/first --repository model_repository --name ncf_first
      ncf export --run runs/second --repository model_repository --name ncf_first --items items.csv
    """
    from ncf.checkpoint import load_run
    from ncf.export import export as export_run
    from ncf.items import read_items

    run = load_run(run_directory)
    columns = read_items(items_file, run.items, item_column) if items_file else []
    exported = export_run(run, repository, name, version, k, device, columns)
    click.echo(
        f"wrote {exported.score}, {exported.topk.name} and {exported.query.name}, version {exported.version}, "
        f"K = {exported.k}" + (f", items with {', '.join(column.name for column in columns)}" if columns else "")
    )


@cli.command(short_help="Go back to an older version of a recommender.")
@click.option("--repository", type=PATH, required=True, help="A Triton model repository, served or not.")
@click.option("--name", required=True, help="Name of the recommender.")
@click.option("--version", type=int, help="The version to go back to. [default: the one before the newest]")
def rollback(repository: Path, name: str, version: int | None) -> None:
    """Go back to an older version: newer ones are withdrawn, and a running `serve` changes over by itself.

    Nothing is deleted: version 7 becomes `.withdrawn-7` in the model's folders; renaming it back undoes the rollback.

    \b
    Example:
      ncf rollback --repository model_repository --name ncf_first
    """
    from ncf.publish import rollback as withdraw

    if not repository.is_dir():
        raise InputError(f"{repository} is no folder; --repository takes a Triton model repository")
    current, withdrawn = withdraw(repository, name, version)
    numbers = ", ".join(map(str, withdrawn))
    click.echo(f"{name} is at version {current} again; withdrawn: {numbers} (kept as .withdrawn-<version>)")


def _prepare(level: int) -> None:
    # Read when torch is loaded: OpenMP threads that spin long make a step up to 30 times slower on shared cores, and
    # spinning briefly costs 5 % on idle ones (docs/log.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=level)


def train_verb() -> None:
    """The `train` verb: SageMaker's training contract under SAGEMAKER_BASE_DIR."""
    # The job is stopped, or its machine is taken away: as after Ctrl-C, the best epoch so far is what is left. And the
    # kernel keeps the signal from process 1 of a container that has no handler for it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _prepare(logging.INFO)
    from ncf.sagemaker import TrainingJob

    sys.exit(TrainingJob.from_environment().run())


def main() -> None:
    """Run the command; a mistake of the user's is one line and exit code 2."""
    _prepare(logging.WARNING)
    try:
        cli()
    except InputError as error:
        click.echo(f"ncf: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        click.echo(f"ncf: {NO_TORCH}", err=True)
        sys.exit(1)
