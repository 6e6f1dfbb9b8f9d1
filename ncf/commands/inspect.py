"""`ncf inspect`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from ncf.commands.reading import PATH, reading_options, reading_words, take_reading


@click.command(short_help="Show how data are read, and the command to train on them.")
@click.option(
    "--data", type=PATH, multiple=True, required=True, help="As of `ncf train`, but for -, which can be read only once."
)
@reading_options
def inspect(data: tuple[Path, ...], **given: Any) -> None:
    """Show how data are read, and print the command to train on them.

    Nothing is trained and nothing written. What `ncf train` needs to know and cannot know is guessed from the data:
    names of columns where there is no header or where they are unusual, the encoding, and whether rows have to be left
    out. Each guess is named; look whether it is right, and paste the last line. Options that you give are kept.

    \b
    Examples:
      ncf inspect --data ratings.dat
      ncf inspect --data ml-latest-small/
      ncf inspect --data events.csv --event-weights view=1,addtocart=3,transaction=10
      ncf inspect --data orders.csv --user-column 'Customer e-mail'
    """
    from ncf.commands.proposal import propose

    found = propose(data, *take_reading(given))
    for line in found.look:
        click.echo(line)
    for guess in found.guesses:
        click.echo(f"guess: {guess}")
    for hint in found.hints:
        click.echo(f"hint: {hint}")
    files = [word for path in found.data for word in ("--data", str(path))]
    options = reading_words(found.columns, found.reading)
    click.echo("\n" + shlex.join(["ncf", "train", *files, "--output", "runs/first", *options]))
