"""`ncf sample`."""

from __future__ import annotations

from pathlib import Path

import click

from ncf.data.sample import CATALOGUES
from ncf.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".parquet")
PATH = click.Path(path_type=Path)


@click.command(short_help="Write generated interactions to try ncf with.")
@click.argument("catalogue", type=click.Choice(sorted(CATALOGUES)))
@click.option("--output", type=PATH, required=True, help="The file to write: .csv, .tsv or .parquet.")
def sample(catalogue: str, output: Path) -> None:
    """Write generated interactions of a catalogue (food or fashion) in which every user has a known taste.

    \b
    Example:
      ncf sample fashion --output fashion.parquet
    """
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
