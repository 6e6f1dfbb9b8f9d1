"""The `ncf` command."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from pathlib import Path

import click

from ncf.commands.evaluate import evaluate
from ncf.commands.prepare import prepare
from ncf.commands.train import train
from ncf.data.sample import CATALOGUES
from ncf.errors import NO_TORCH, InputError, LostProcessError
from ncf.training.config import DEFAULT_K, DEVICES

PATH = click.Path(path_type=Path)


@click.group(
    commands=[prepare, train, evaluate],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
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
    """Write a generated catalogue with a planted taste structure (see ncf/data/sample.py).

    \b
    Example:
      ncf sample fashion --output fashion.parquet
    """
    from ncf.data.interactions import SEPARATORS, SUFFIXES
    from ncf.data.sample import generate

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
@click.option("--serving", type=PATH, help="A JSON file of batch sizes, queue delays and instances, by part.")
def export(
    run_directory: Path,
    repository: Path,
    name: str,
    version: int | None,
    k: int,
    items_file: Path | None,
    item_column: str,
    device: str,
    serving: Path | None,
) -> None:
    """Write a run into a Triton model repository as TorchScript, checked against the trained model first.

    A running `serve` puts a new version of a recommender live by itself. The columns of --items, such as title and
    category, can be returned with recommendations and filtered by.

    --serving sets max_batch_size, max_queue_delay_microseconds and instances of score, topk and query in the
    config.pbtxt of a new recommender. `make bench` writes such a file, export_preset.json:
    {"score": {"max_batch_size": 1024, "instances": 2}, "topk": {"max_queue_delay_microseconds": 500}}

    \b
    Examples:
      ncf export --run runs/first --repository model_repository --name ncf_first
      ncf export --run runs/second --repository model_repository --name ncf_first --items items.csv
      ncf export --run runs/first --repository tuned --name ncf_first --serving export_preset.json
    """
    from ncf.data.item_columns import read_items
    from ncf.export.export import export as export_run
    from ncf.export.serving_settings import read_serving
    from ncf.training.run_directory import load_run

    settings = read_serving(serving) if serving else None
    run = load_run(run_directory)
    columns = read_items(items_file, run.items, item_column) if items_file else []
    exported = export_run(run, repository, name, version, k, device, columns, settings)
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
    from ncf.export.repository import rollback as withdraw

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
    """The `train` verb: SageMaker's training contract under SAGEMAKER_BASE_DIR; arguments are hyper-parameters."""
    # The job is stopped, or its machine is taken away: as after Ctrl-C, the best epoch so far is what is left. And the
    # kernel keeps the signal from process 1 of a container that has no handler for it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _prepare(logging.INFO)
    from ncf.job.job import HELP, TrainingJob

    if {"-h", "--help"} & set(sys.argv[1:]):
        click.echo(HELP)
        sys.exit(0)
    sys.exit(TrainingJob.from_environment(sys.argv[1:]).run())


def main() -> None:
    """Run the command; a mistake of the user's is one line and exit code 2."""
    _prepare(logging.WARNING)
    try:
        cli()
    except InputError as error:
        click.echo(f"ncf: {error}", err=True)
        sys.exit(2)
    except LostProcessError as error:
        click.echo(f"ncf: {error}", err=True)
        sys.exit(1)
    except RuntimeError as error:
        if not re.search("(allocate|out of) memory", str(error)):
            raise
        reason = str(error).splitlines()[0]
        click.echo(f"ncf: not enough memory: {reason}; lower --batch-size, --num-factors or --num-layers", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        click.echo(f"ncf: {NO_TORCH}", err=True)
        sys.exit(1)
