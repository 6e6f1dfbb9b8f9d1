"""What features of items are worth: for new items (new_items.py), and by the usual protocol.

popularity by genre      the mean number of interactions of the items of a genre, averaged over an item's genres
… of the user's genres   the same, weighted by the share of each genre in the user's items, and summed
nearest features         cosine of an item's encoded features and the sum of those of the user's items
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

from benchmarks.training.new_items import CPU, QUIET, new_items
from ncf.data.load import load_split
from ncf.data.splits import Split
from ncf.errors import InputError
from ncf.evaluation.ranking import Candidates, evaluate_sampled
from ncf.training.config import LOSSES, MODEL_NAMES, TrainConfig
from ncf.training.presets import configure
from ncf.training.run import train_run

PATH = click.Path(path_type=Path)
Figures = Mapping[str, Mapping[str, float]]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--data", type=PATH, required=True, help="As for `ncf train`.")
@click.option("--item-features", type=PATH, help="[default: items.csv in --data]")
@click.option("--user-features", type=PATH, help="[default: none]")
@click.option("--genres", default="genres", help="The column for popularity by genre.")
@click.option("--protocol", type=click.Choice(["new-items", "usual"]), default="new-items")
@click.option("--preset", default="default")
@click.option("--model", type=click.Choice(MODEL_NAMES), help="[default: the preset's]")
@click.option("--num-factors", type=int, help="[default: the preset's]")
@click.option("--loss", type=click.Choice(LOSSES), help="[default: the preset's]")
@click.option("--negatives", help="[default: the preset's]")
@click.option("--epochs", type=int, help="[default: the preset's]")
@click.option("--share", default=0.1, type=click.FloatRange(0, 0.9, min_open=True), help="Of items that are new.")
@click.option("--seeds", default=3, type=click.IntRange(1), help="Trainings, with the seeds 0, 1, …")
def main(
    data: Path, item_features: Path | None, user_features: Path | None, genres: str, protocol: str, preset: str,
    share: float, seeds: int, **settings: str | int | None,
) -> None:  # fmt: skip
    """Measure what features of items are worth, averaged over seeds.

    \b
    Examples:
      python -m benchmarks.training.features --data path/to/ml-1m --model gmf --num-factors 64
      python -m benchmarks.training.features --data path/to/ml-1m --protocol usual --user-features path/to/users.csv
    """
    item_features = item_features or data / "items.csv"
    found: list[Figures] = []
    try:
        for seed in range(seeds):
            config = configure(preset, {**settings, "seed": seed})
            split = load_split(data, config.split)
            if protocol == "usual":
                found.append(usual(split, config, item_features, user_features))
            else:
                found.append(new_items(split, config, item_features, user_features, genres, share))
    except InputError as error:
        raise click.ClickException(str(error)) from error
    console = Console(width=150, highlight=False)
    ways = f"loss {config.loss}, negatives {config.negatives}"
    console.print(f"{config.model}, {config.num_factors} factors, {ways}; seeds 0 to {seeds - 1}")
    console.print(table(found))


def usual(split: Split, config: TrainConfig, item_features: Path, user_features: Path | None) -> Figures:
    """HR@10 and NDCG@10 of the held-out items among the sampled negatives, with features and without."""
    candidates = Candidates.of(split.held_out, split, CPU, config.split.seed)
    ways: dict[str, tuple[Path | None, Path | None]] = {"without": (None, None), "items": (item_features, None)}
    if user_features:
        ways["items and users"] = (item_features, user_features)
    figures = {}
    for name, sources in ways.items():
        with TemporaryDirectory(prefix="ncf-") as folder:
            result = train_run(split, Path(folder) / "run", config, CPU, QUIET, *sources)
            assert result is not None
        report = evaluate_sampled(result.model, candidates)
        figures[name] = {metric: report[metric] for metric in ("HR@10", "NDCG@10")}
    return figures


def table(found: Sequence[Figures]) -> Table:
    """A row for each scorer; mean and, for several seeds, deviation."""
    columns = list(next(iter(found[0].values())))
    made = Table("", *columns)
    for name in found[0]:
        cells = []
        for column in columns:
            values = [each[name][column] for each in found]
            spread = f" ±{statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        made.add_row(name, *cells)
    return made


if __name__ == "__main__":
    main()
