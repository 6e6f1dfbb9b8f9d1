"""`ncf train`."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import click

from ncf.commands.reading import DATA, reading_options, split_options, take_reading
from ncf.commands.reading import PATH as DATA_PATH
from ncf.training.config import AMONG, DEVICES, LOSSES, MODEL_NAMES, PRECISIONS, SCHEDULES, seconds

PATH = click.Path(path_type=Path)


@click.command(short_help="Train a model and write a run directory.")
@click.option("--data", type=DATA_PATH, multiple=True, required=True, help=DATA)
@click.option("--output", type=PATH, required=True, help="The run directory to write.")
@click.option("--item-features", type=PATH, help="A file with a row for each item: its category, price, title, …")
@click.option("--user-features", type=PATH, help="A file with a row for each user: their age, region, …")
@click.option(
    "--preset",
    metavar="NAME",
    help="Named settings to start from: ml-1m, ml-1m-fast, ml-1m-best, ml-1m-pure, gowalla (docs/results.md); the "
    "paper's paper-neumf-N and paper-neumf-N-pretrained, N 8, 16, 32 or 64; or a file of `ncf tune`, best.json.",
)
@click.option("--model", type=click.Choice(MODEL_NAMES), help="[default: gmf]")
@click.option("--num-factors", type=int, help="Size of GMF's embeddings and of the last MLP layer. [default: 32]")
@click.option("--num-layers", type=int, help="Layers of the MLP tower. [default: 3]")
@click.option(
    "--loss",
    type=click.Choice(LOSSES),
    help="squares (8 epochs, l2 0.003) and spectral (1 epoch) are for gmf, in closed form. [default: bce]",
)
@click.option(
    "--negatives", help="exact: all cells, no sampling; N: drawn for each positive. [default: auto, the faster]"
)
@click.option(
    "--negatives-among", type=click.Choice(AMONG), help="Items that negatives are drawn from. [default: unseen]"
)
@click.option("--negative-weight", type=float, help="Weight of the negatives for each positive in exact. [default: 16]")
@click.option("--epochs", type=int, help="Most epochs. [default: 20; exact: 40]")
@click.option("--patience", type=int, help="Stop after so many epochs without a better one. [default: 4; exact: 40]")
@click.option("--batch-size", type=int, help="Samples in a step, with negatives. [default: 8192; exact: 2097152]")
@click.option("--learning-rate", type=float, help="Of Adam. [default: 0.003; exact: 0.03]")
@click.option("--schedule", type=click.Choice(SCHEDULES), help="[default: constant; exact: cosine]")
@click.option(
    "--dropout", type=float, help="Of GMF's user embeddings, and between MLP layers. [default: 0; exact: 0.1]"
)
@click.option("--l2", type=float, help="Weight of the squared length of embeddings. [default: 0; exact: 0.0015]")
@click.option("--pretrain", is_flag=True, default=None, help="neumf: train its two branches first.")
@click.option("--members", type=int, help="gmf: train so many models with different seeds, and fold them into one.")
@click.option("--among-all-members", type=int, help="Additional members with negatives among all items. [default: 0]")
@click.option("--softmax-members", type=int, help="Additional members with loss softmax. [default: 0]")
@click.option("--closed-form", type=float, help="gmf: weight of EDLAE in the folded scores. [default: 0]")
@click.option("--fold-factors", type=int, help="gmf: factors of the folded model. [default: those of its members]")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Of large products. [default: auto, by the hardware]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--split-seed", type=int, help="Chooses held-out items, and negatives of evaluations. [default: --seed]")
@click.option(
    "--validation", type=int, help="Items of each user that choose the best epoch; 0: keep the last. [default: 1]"
)
@click.option(
    "--init", type=PATH, help="An earlier run: start with its parameters, for fewer epochs. New ids get rows, too."
)
@click.option(
    "--refit/--no-refit", default=None,
    help="Then fit everything, held-out items too, for the model that is exported. [default: --no-refit]",
)  # fmt: skip
@split_options
@click.option("--min-user-interactions", type=int, help="Leave out users with fewer. [default: 1]")
@click.option("--min-item-interactions", type=int, help="Leave out items with fewer. [default: 1]")
@click.option("--max-time", help="Stop after the epoch that exceeds it, such as 90, 30m or 2h; the best epoch is kept.")
@click.option("--resume", is_flag=True, help="Continue from the newest checkpoint, if there is one.")
@click.option("--checkpoints", type=PATH, help="Folder of the checkpoints. [default: checkpoints in --output]")
@click.option("--tensorboard", type=PATH, help="Folder for TensorBoard's event files.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@reading_options
def train(
    data: tuple[Path, ...],
    output: Path,
    item_features: Path | None,
    user_features: Path | None,
    preset: str | None,
    device: str,
    max_time: str | None,
    resume: bool,
    init: Path | None,
    checkpoints: Path | None,
    tensorboard: Path | None,
    **overrides: Any,
) -> None:
    """Train a model and write a run directory.

    Before anything else it says what was read: rows, columns that are used and not used, rows left out, and how the
    held-out items were chosen. `ncf inspect` says it without training, and finds the options that a file needs. A
    folder may also be one of `ncf prepare`, or have a split of its own in the format of the NCF paper or of LightGCN.

    One item of each user is held out for `ncf evaluate` (the latest, or a random item without timestamps), and one more
    to choose the best epoch. --split time cuts at one time instead, ratio holds out a share of each user's items, and
    --test takes the held-out items from a file (docs/training.md, Protocols). Ctrl-C stops the training and keeps the
    best epoch so far. With --refit everything is fitted again for as many epochs as were best, and `ncf export`, `ncf
    recommend` and `ncf vectors` take that model, while `ncf evaluate` measures the one that never saw the held-out
    items. With --resume a run that was killed continues, and its result is the same as without the
    interruption.

    With --item-features and --user-features the model also learns what the values of their columns say, so that
    `ncf export --new-items` can recommend an item that nobody has had yet (docs/training.md, Features).

    \b
    Examples:
      ncf train --data ratings.csv --output runs/first
      ncf train --data ratings.tsv --output runs/gmf --model gmf --num-factors 64 --user-column customer
      ncf train --data 2025.csv.gz --data 2026.csv.gz --output runs/both --min-weight 4
      ncf train --data ratings.csv --output runs/time --split time --test-share .1
      ncf train --data ml-1m/ --output runs/ml-1m --preset ml-1m-best
      ncf train --data ratings.csv --output runs/films --item-features films.csv
      ncf train --data ratings.csv --output runs/first --resume
      ncf train --data today.csv --output runs/today --init runs/yesterday --refit
      torchrun --nproc-per-node 2 -m ncf train --data ratings.csv --output runs/two --negatives 4
    """
    from ncf.training.presets import configure
    from ncf.training.progress import metrics
    from ncf.training.run import Life, choose_device, train_run

    columns, reading = take_reading(overrides)
    config = configure(preset, {**overrides, "columns": columns, "reading": reading})
    life = Life(
        resume, checkpoints, seconds(max_time) if max_time else math.inf, tensorboard,
        say=partial(click.echo, err=True), init=init,
    )  # fmt: skip
    result = train_run(data, output, config, choose_device(device), life, item_features, user_features)
    if result is None:
        return
    figures = metrics(result.loss, result.hit_rate_at_10, result.ndcg_at_10)
    click.echo(f"wrote {output}: {result.origin} ({result.stopped}){', ' if figures else ''}{figures}")
