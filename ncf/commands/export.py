"""`ncf export` and `ncf rollback`."""

from __future__ import annotations

from pathlib import Path

import click

from ncf.errors import InputError
from ncf.training.config import DEFAULT_K, DEVICES

PATH = click.Path(path_type=Path)


@click.command(short_help="Write a run into a Triton model repository.")
@click.option("--run", "run_directory", type=PATH, required=True, help="A run directory of `ncf train`.")
@click.option("--repository", type=PATH, required=True, help="A Triton model repository; made if it is not there.")
@click.option("--name", required=True, help="Name of the recommender; NAME and NAME_query are written.")
@click.option("--version", type=int, help="Version to write. [default: the next free one]")
@click.option("--k", type=int, default=DEFAULT_K, show_default=True, help="Most recommendations in an answer.")
@click.option("--items", "items_file", type=PATH, help="A CSV, TSV or Parquet file with metadata of the items.")
@click.option("--item-column", help="The column of ids in --items. [default: item_id]")
@click.option("--new-items", type=PATH, help="A file with the features of items that the run does not know.")
@click.option("--new-users", type=PATH, help="A file with the features of users that the run does not know.")
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where Triton runs the models; auto: on a GPU if the server finds one.",
)
@click.option(
    "--with-topk/--without-topk",
    default=None,
    help="Also write NAME_topk, which takes a user_index alone, for requests to Triton itself. [default: as the newest "
    "version in the repository; a new recommender has none]",
)
@click.option(
    "--serving", type=PATH, help="A JSON file with batch sizes, queue delays and instances of score, query and topk."
)
def export(
    run_directory: Path,
    repository: Path,
    name: str,
    version: int | None,
    k: int,
    items_file: Path | None,
    item_column: str | None,
    new_items: Path | None,
    new_users: Path | None,
    device: str,
    with_topk: bool | None,
    serving: Path | None,
) -> None:
    """Write a run into a Triton model repository as TorchScript, after a comparison with the trained model.

    A running `serve` loads a new version of a recommender by itself. Requests can return the columns of --items, such
    as title and category, with recommendations, and filter by them.

    --new-items and --new-users take files like those of `ncf train --item-features` and --user-features. The items and
    users in them that the run does not know are exported too, by what it learned about the values of their features.

    --serving sets max_batch_size, max_queue_delay_microseconds and instances of score, query and topk in the
    config.pbtxt of a new recommender. `make bench` writes such a file, export_preset.json:
    {"score": {"max_batch_size": 1024, "instances": 2}, "query": {"max_queue_delay_microseconds": 500}}

    \b
    Examples:
      ncf export --run runs/first --repository model_repository --name ncf_first
      ncf export --run runs/second --repository model_repository --name ncf_first --items items.csv
      ncf export --run runs/films --repository model_repository --name films --new-items films-of-today.csv
      ncf export --run runs/first --repository for_triton --name ncf_first --with-topk
      ncf export --run runs/first --repository tuned --name ncf_first --serving export_preset.json
    """
    from ncf.data.item_columns import read_items
    from ncf.export.export import export as export_run
    from ncf.export.new import with_new
    from ncf.export.serving_settings import read_serving
    from ncf.training.run_directory import load_run

    if item_column and not items_file:
        raise InputError(
            f"--item-column is '{item_column}', a column of --items, which is not given; give both or none"
        )
    settings = read_serving(serving) if serving else None
    run, words = with_new(load_run(run_directory, refitted=True), new_items, new_users)
    for line in words:
        click.echo(line, err=True)
    columns = read_items(items_file, run.items, item_column or "item_id") if items_file else []
    exported = export_run(run, repository, name, version, k, device, columns, settings, with_topk)
    click.echo(
        f"wrote {exported.listed}, version {exported.version}, K = {exported.k}"
        + (f", items with {', '.join(column.name for column in columns)}" if columns else "")
    )
    if not run.refitted:
        click.echo("the model has not learned what its training held out; with `ncf train --refit` it has", err=True)


@click.command(short_help="Go back to an older version of a recommender.")
@click.option("--repository", type=PATH, required=True, help="A Triton model repository, served or not.")
@click.option("--name", required=True, help="Name of the recommender.")
@click.option("--version", type=int, help="The version to go back to. [default: the one before the newest]")
def rollback(repository: Path, name: str, version: int | None) -> None:
    """Go back to an older version: newer versions are withdrawn, and a running `serve` follows by itself.

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
