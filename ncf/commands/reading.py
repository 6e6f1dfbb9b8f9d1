"""The options that say how files of interactions are read; several commands have them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from ncf.data.splits import SPLITS
from ncf.errors import InputError
from ncf.files.reading import Columns, Reading

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path, allow_dash=True)
DATA = "A file (CSV, TSV, Parquet, JSON Lines, Arrow; compressed or not), a folder of files, or -; can be repeated."

OPTIONS = (
    click.option("--user-column", help="[default: user_id, or a usual name such as userId or customer_id]"),
    click.option("--item-column", help="[default: item_id, or a usual name such as movieId or article_id]"),
    click.option("--weight-column", help="[default: weight, if there is one]"),
    click.option("--timestamp-column", help="[default: timestamp, or a usual name such as date, if there is one]"),
    click.option("--event-column", help="Of the words in --event-weights. [default: event, or a usual name]"),
    click.option("--no-header", is_flag=True, default=None, help="The files begin with a row; needs --columns."),
    click.option("--columns", "names", help="Names of the columns without a header: user_id,item_id,weight,timestamp"),
    click.option("--separator", help="Sign between fields, such as ';', tab or '::'. [default: found in the file]"),
    click.option("--encoding", help="Such as latin-1 or utf-16. [default: utf-8]"),
    click.option("--skip-bad-rows", is_flag=True, default=None, help="Leave out rows that cannot be read, and say so."),
    click.option("--min-weight", type=float, help="Leave out rows of a smaller weight, such as ratings below 4."),
    click.option("--event-weights", help="The weight of each event: view=1,cart=3,buy=10; others are left out."),
    click.option(
        "--sum-repeats", is_flag=True, default=None, help="Add the weights of repeated pairs of user and item."
    ),
    click.option("--half-life", help="Age that halves a weight, such as 90d (h, d, w, y), before the latest row."),
)
SPLIT = (
    click.option("--split", type=click.Choice(SPLITS), help="How items are held out. [default: leave-one-out]"),
    click.option("--held-out", type=int, help="leave-one-out: items of each user kept for evaluation. [default: 1]"),
    click.option("--test-share", type=float, help="ratio, time: the share that is held out. [default: 0.2]"),
    click.option("--test", help="A file or folder of the held-out interactions, read as the data."),
)
_COLUMNS = {
    "user_column": "user_id", "item_column": "item_id", "weight_column": "weight", "timestamp_column": "timestamp",
    "event_column": "event",
}  # fmt: skip
_READING = ("no_header", "names", "separator", "encoding", "skip_bad_rows", "min_weight", "event_weights",
            "sum_repeats", "half_life")  # fmt: skip


def reading_options(command: Command) -> Command:
    """Give a command the options of how to read."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def split_options(command: Command) -> Command:
    """Give a command the options of how data are split."""
    for option in reversed(SPLIT):
        command = option(command)
    return command


def take_reading(given: dict[str, Any]) -> tuple[Columns, Reading]:
    """Remove these options from those of a command, and return what they say. Raises InputError."""
    columns = {field: given.pop(name) for name, field in _COLUMNS.items()}
    reading = {name: value for name in _READING if (value := given.pop(name)) is not None}
    return Columns(**columns), Reading(**reading)


def _options() -> list[click.Parameter]:
    return reading_options(click.command()(lambda: None)).params


@contextmanager
def without_options(run: Path) -> Iterator[None]:
    """For a command that reads data as a run did: its errors name no option of reading, but the run."""
    names = {name for option in _options() for name in option.opts}
    try:
        yield
    except InputError as error:
        parts = re.split(r"(?<=[;:.]) ", str(error))
        kept = [part for part in parts if not names & set(re.findall(r"--[a-z-]+", part))]
        if len(kept) == len(parts):
            raise
        text = " ".join(kept).rstrip(";:. ")
        raise InputError(f"{text}; the data are read as those of {run} were, so give data of the same form") from error


def reading_words(columns: Columns, reading: Reading) -> list[str]:
    """The options on a command line that say this again."""
    given = {name: getattr(columns, field) for name, field in _COLUMNS.items()} | reading.to_dict()
    words = []
    for name, value in given.items():
        if value is not None:
            option = "--columns" if name == "names" else f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    return words
