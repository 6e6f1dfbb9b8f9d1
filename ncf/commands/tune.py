"""`ncf tune`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import click

from ncf.commands.reading import reading_options, reading_words, take_reading
from ncf.commands.train import train
from ncf.data.splits import SplitOptions
from ncf.training.config import TrainConfig, seconds

PATH = click.Path(path_type=Path)
# A search is for one model, trained in one stage.
OF_SEVERAL = ("pretrain", "members", "among_all_members", "softmax_members", "closed_form", "fold_factors")
OF_THE_SPLIT = tuple(each.name for each in fields(SplitOptions))
NOT_OF_A_TRIAL = (*OF_SEVERAL, "refit", "split", "columns", "reading")
SETTINGS = {*(each.name for each in fields(TrainConfig)), *OF_THE_SPLIT} - set(NOT_OF_A_TRIAL)
# The options of `ncf train` that a trial has, too.
SAME = [option for option in train.params if option.name in {"data", "preset", "device", *SETTINGS}]


@click.command(short_help="Search for settings that suit the data.", params=list(SAME))
@click.option("--output", type=PATH, required=True, help="The folder of the search; an earlier search in it continues.")
@click.option("--trials", type=int, default=30, show_default=True, help="In all, with those of the earlier search.")
@click.option("--max-time", help="Start no trial after it, and end the running one, such as 90, 30m or 2h.")
@reading_options
def tune(
    data: tuple[Path, ...],
    output: Path,
    preset: str | None,
    device: str,
    trials: int,
    max_time: str | None,
    **overrides: Any,
) -> None:
    """Search for settings that suit the data.

    Each trial trains a model with other settings. What is compared is the NDCG@10 of its best epoch on the items that
    choose the epoch (--validation); the items held out for `ncf evaluate` are in no trial. The first trial has the
    settings of the preset, or the defaults. A trial that is worse than the median of the earlier ones at the same epoch
    is ended early, and one that fails is noted. Settings that are given are fixed, the others are searched within the
    ranges of docs/training.md; Optuna proposes them.

    The folder has the search itself (study.sqlite3), its trials (trials.csv), the best settings as a preset
    (best.json), and a page with plots (report.html). After Ctrl-C, --max-time or a kill the same command continues.

    \b
    Examples:
      ncf tune --data ratings.csv --output searches/first
      ncf tune --data ratings.csv --output searches/hour --max-time 1h --trials 200
      ncf tune --data ratings.csv --output searches/neumf --model neumf --negatives 4 --epochs 10
      ncf train --data ratings.csv --output runs/best --preset searches/first/best.json
    """
    from ncf.training.presets import configure
    from ncf.training.progress import metrics
    from ncf.training.run import choose_device
    from ncf.tuning.search import Limits, search

    columns, reading = take_reading(overrides)
    config = configure(preset, {**overrides, "columns": columns, "reading": reading})
    fixed = {name for name, value in overrides.items() if value is not None}
    limits = Limits(trials, seconds(max_time) if max_time else math.inf)
    best = search(data, output, config, fixed, choose_device(device), limits, partial(click.echo, err=True))
    click.echo(f"trial {best.trial} is the best: {metrics(None, best.hit_rate_at_10, best.ndcg_at_10)} {best.words}")
    split = {name: overrides[name] for name in OF_THE_SPLIT if overrides.get(name) is not None}
    words = [*(word for path in data for word in ("--data", str(path))), "--output", "runs/best"]
    words += ["--preset", str(output / "best.json"), *option_words(split), *reading_words(columns, reading)]
    click.echo(f"ncf train {shlex.join(words)}")


def option_words(given: dict[str, Any]) -> Iterable[str]:
    for name, value in given.items():
        yield from (f"--{name.replace('_', '-')}", str(value))
