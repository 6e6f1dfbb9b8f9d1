"""`ncf vectors`."""

from __future__ import annotations

from pathlib import Path

import click

from ncf.errors import InputError

PATH = click.Path(path_type=Path)


@click.command(short_help="Write vectors of users and items for a vector index.")
@click.option("--run", "run_directory", type=PATH, required=True, help="A run directory of `ncf train`, of a GMF.")
@click.option("--output", type=PATH, required=True, help="The folder to write.")
def vectors(run_directory: Path, output: Path) -> None:
    """Write a vector for each user and item; the inner product of two is the score that the model gives them.

    The folder gets users.parquet and items.parquet (the id and its vector) and users.npy and items.npy (the vectors
    alone, float32, in the same order). An index of inner products finds a user's best items without looking at all.

    \b
    Example:
      ncf vectors --run runs/first --output vectors
    """
    from ncf.export.vectors import write_vectors
    from ncf.training.run_directory import load_run

    if output.exists():
        raise InputError(f"{output} exists already; choose another --output, or delete it")
    num_users, num_items, size = write_vectors(load_run(run_directory, refitted=True), output)
    click.echo(f"wrote {output}: {num_users:,} users and {num_items:,} items, vectors of {size} numbers")
