"""`ncf train`, which is also `python -m ncf.train` for torchrun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ncf.config import DEVICES, MODEL_NAMES, PRESETS

PATH = click.Path(path_type=Path)


@click.command(short_help="Train a model and leave a run directory.")
@click.option("--data", type=PATH, required=True, help="A CSV, TSV or Parquet file, or a folder in the paper's format.")
@click.option("--output", type=PATH, required=True, help="The run directory to make.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Named settings to start from.")
@click.option("--model", type=click.Choice(MODEL_NAMES), help="[default: neumf]")
@click.option("--epochs", type=int, help="At most so many epochs. [default: 20]")
@click.option("--patience", type=int, help="Stop after so many epochs without a better one. [default: 4]")
@click.option("--batch-size", type=int, help="Samples a step, negatives included. [default: 8192]")
@click.option("--learning-rate", type=float, help="Adam's. [default: 0.003]")
@click.option("--num-factors", type=int, help="Size of the last layer, and of GMF's embeddings. [default: 16]")
@click.option("--num-layers", type=int, help="Layers of the MLP tower. [default: 3]")
@click.option("--num-train-negatives", type=int, help="Negatives a positive. [default: 4]")
@click.option("--dropout", type=float, help="Between the tower's layers. [default: 0]")
@click.option("--l2", type=float, help="Weight of the embeddings' mean squared length. [default: 0]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--user-column", help="[default: user_id]")
@click.option("--item-column", help="[default: item_id]")
@click.option("--weight-column", help="[default: weight, if there is one]")
@click.option("--timestamp-column", help="[default: timestamp, if there is one]")
def train(
    data: Path,
    output: Path,
    preset: str | None,
    device: str,
    user_column: str | None,
    item_column: str | None,
    weight_column: str | None,
    timestamp_column: str | None,
    **overrides: Any,
) -> None:
    """Train a model and leave a run directory.

    One item a user is held out for `ncf evaluate` (the latest, or a random one without timestamps), one more to choose
    the best epoch. Ctrl-C ends training early and keeps the best epoch so far.

    \b
    Examples:
      ncf train --data ratings.csv --output runs/first
      ncf train --data ratings.tsv --output runs/gmf --model gmf --num-factors 64 --user-column customer
      ncf train --data ml-1m/ --output runs/ml-1m --preset ml-1m
    """
    from ncf.config import configure
    from ncf.interactions import Columns
    from ncf.train import choose_device, train_run

    given = {"user_id": user_column, "item_id": item_column, "weight": weight_column, "timestamp": timestamp_column}
    columns = Columns(**{name: value for name, value in given.items() if value is not None})
    config = configure(preset, {**overrides, "columns": columns})
    result = train_run(data, output, config, choose_device(device))
    best = result.epochs[result.best_epoch - 1]
    click.echo(
        f"wrote {output}: best epoch {best.epoch} of {len(result.epochs)} ({result.stopped}), "
        f"hold-out HR@10 {best.hit_rate_at_10:.4f}, NDCG@10 {best.ndcg_at_10:.4f}"
    )
