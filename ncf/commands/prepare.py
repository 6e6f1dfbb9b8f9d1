"""`ncf prepare`."""

from __future__ import annotations

import signal
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ncf.commands.reading import DATA, reading_options, split_options, take_reading
from ncf.commands.reading import PATH as DATA_PATH
from ncf.errors import InputError

PATH = click.Path(path_type=Path)


@click.command(short_help="Write data of any size for `ncf train`.")
@click.option("--data", type=DATA_PATH, multiple=True, required=True, help=DATA)
@click.option("--output", type=PATH, required=True, help="The folder to write, for `ncf train --data`.")
@split_options
@click.option("--min-user-interactions", type=int, default=1, show_default=True, help="Leave out users with fewer.")
@click.option("--min-item-interactions", type=int, default=1, show_default=True, help="Leave out items with fewer.")
@click.option(
    "--split-seed", "--seed", "seed", type=int, default=0, show_default=True,
    help="Chooses held-out items if there are no timestamps.",
)  # fmt: skip
@reading_options
def prepare(
    data: tuple[Path, ...],
    output: Path,
    **options: Any,
) -> None:
    """Write interactions that do not fit into memory into a folder that `ncf train` memory-maps.

    The data are streamed, never in memory as a whole. The folder has the split that `ncf train` makes of the same file
    with the same options, and the items that choose the best epoch. Give it as --data to `ncf train` and `ncf
    evaluate`. After Ctrl-C nothing is left behind.

    \b
    Examples:
      ncf prepare --data clicks.parquet --output clicks-prepared
      ncf prepare --data 2025.csv --data 2026.csv --output prepared --user-column customer --held-out 3
      ncf prepare --data parts/ --output prepared --min-user-interactions 5 --min-item-interactions 5
      ncf train --data prepared --output runs/large
    """
    from ncf.data.load import has_own_split
    from ncf.data.prepare import prepare as prepare_data
    from ncf.data.splits import SplitOptions

    if own := [path for path in data if has_own_split(path)]:
        raise InputError(f"{own[0]} has a split of its own, which ncf train takes as it is; give files of interactions")
    columns, reading = take_reading(options)
    options = {name: value for name, value in options.items() if value is not None}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM leaves nothing behind either
    try:
        with PrepareProgress() as progress:
            made = prepare_data(data, output, SplitOptions(columns, reading, **options), progress)
    finally:
        signal.signal(signal.SIGTERM, before)
    for line in made.look:
        click.echo(line, err=True)
    click.echo(
        f"wrote {output}: {made.num_users:,} users, {made.num_items:,} items, {made.num_train:,} interactions to train "
        f"on, {made.num_validation:,} to choose the epoch by and {made.num_held_out:,} held out"
    )


class PrepareProgress:
    """Context manager, the `on_progress` of `prepare`: a bar on a terminal, else a line for each finished step."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> PrepareProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=total)
        self.bar.update(self.tasks[what], completed=done, total=total)
        if done == total and not self.console.is_terminal:
            seconds = self.bar.tasks[self.tasks[what]].elapsed or 0
            self.console.print(f"{what}: done in {seconds:.1f} s", soft_wrap=True)
