"""`ncf recommend`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ncf.errors import InputError

PATH = click.Path(path_type=Path)


@click.command(short_help="Write recommendations for everybody into a file.")
@click.option("--run", "run_directory", type=PATH, required=True, help="A run directory of `ncf train`.")
@click.option("--output", type=PATH, required=True, help="The file to write: .parquet, .csv or .jsonl.")
@click.option("--k", type=int, default=10, show_default=True, help="Items for each user.")
@click.option("--users", type=PATH, help="A file with a column user_id: only these. [default: all users of the run]")
@click.option("--exclude", type=PATH, help="A file with a column item_id: items that nobody gets.")
@click.option("--items", type=PATH, help="The table of the items' columns, for --where.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only items with this value; can be repeated.")
@click.option("--include-seen", is_flag=True, help="Also items that the user has had.")
@click.option("--part", default="1/1", show_default=True, help="Only this part of the users, such as 3/16.")
def recommend(
    run_directory: Path, output: Path, k: int, users: Path | None, exclude: Path | None, items: Path | None,
    where: tuple[str, ...], include_seen: bool, part: str,
) -> None:  # fmt: skip
    """Write the k best items of each user, as `serve` would answer them.

    The file has the columns user_id, rank, item_id and score. A user who is not known gets the most popular items.
    After an interruption the same command goes on where it ended. Several machines share the work by --part.

    \b
    Examples:
      ncf recommend --run runs/first --output recommendations.parquet
      ncf recommend --run runs/first --output soups.csv --items items.csv --where category=soup --k 5
      ncf recommend --run runs/first --output part-3.parquet --part 3/16
    """
    from ncf.data.item_columns import read_items
    from ncf.data.tables import id_column, read_frame
    from ncf.export.everybody import recommend_everybody
    from ncf.export.ranker import Conditions, Ranker
    from ncf.training.run_directory import load_run

    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1")
    run = load_run(run_directory, refitted=True)
    names = run.config.split.columns
    columns = read_items(items, run.items, names.item_name) if items else []
    wanted = None
    if users:
        wanted = id_column(read_frame(users, "--users"), names.user_id or "user_id", str(users), "--user-column")
    hidden: list[Any] = []
    if exclude:
        frame = read_frame(exclude, "--exclude")
        hidden = id_column(frame, names.item_name, str(exclude), "--item-column").to_list()
    conditions = Conditions(hidden, None, dict(map(_condition, where)), not include_seen)
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("recommending"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("recommend", total=len(run.users) if wanted is None else len(wanted))
        number = recommend_everybody(
            Ranker(run, columns), output, wanted, k, conditions, _part(part),
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    click.echo(f"wrote {output}: the {k} best items of {number:,} users")


def _condition(text: str) -> tuple[str, Any]:
    """`column=value`; a value that is JSON, such as true, 5 or null, is what it is there, else text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InputError(f"where is '{text}'; give a column and a value, such as category=soup")
    try:
        found = json.loads(value)
    except ValueError:
        return name, value
    return name, value if isinstance(found, dict | list) else found


def _part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise InputError(f"part is '{text}'; give a part and the number of parts, such as 3/16")
    return int(number), int(of)
