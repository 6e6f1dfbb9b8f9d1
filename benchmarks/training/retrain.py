"""A daily retraining: all data trained anew, beside a warm start from a run of the data without their newest rows.

The newest rows are each user's latest interaction and all interactions of some users, who are new then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from ncf.data.interactions import Interactions, count_indices
from ncf.data.load import load_split
from ncf.data.protocols import hold_out
from ncf.data.splits import Split, SplitOptions
from ncf.evaluation.ranking import rank_held_out
from ncf.training.config import MODEL_NAMES
from ncf.training.loop import TrainResult
from ncf.training.presets import configure
from ncf.training.run import Life, choose_device, train_run

METRICS = (("sampled", "HR@10"), ("sampled", "NDCG@10"), ("full", "HR@10"), ("full", "NDCG@10"))


def before(split: Split, new_users: int) -> Split:
    """The split of the data without each user's latest interaction, and without the last users."""
    kept = split.train.take(split.train.user_index < split.train.num_users - new_users)
    users, items = (
        count_indices(index, size) > 0
        for index, size in ((kept.user_index, kept.num_users), (kept.item_index, kept.num_items))
    )
    user, item = ((np.cumsum(some) - 1)[index] for some, index in ((users, kept.user_index), (items, kept.item_index)))
    ids = kept.users.only(users), kept.items.only(items)
    return hold_out(Interactions(*ids, user, item, kept.weight, kept.timestamp), SplitOptions())


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--model", type=click.Choice(MODEL_NAMES), default="gmf")
@click.option("--num-factors", default=32)
@click.option("--new-users", default=24, help="Users whom the earlier run does not know.")
@click.option("--seeds", default=3, help="Trainings of all data, whose spread is the noise.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto")
def main(data: Path, model: str, num_factors: int, new_users: int, seeds: int, device: str) -> None:
    """Measure epochs' seconds, and HR@10 and NDCG@10 of the held-out items.

    \b
    Examples:
      python -m benchmarks.training.retrain ml-1m
      python -m benchmarks.training.retrain ml-1m --model neumf --num-factors 8 --seeds 1
    """
    split, where = load_split(data), choose_device(device)
    table = Table("training", "epochs", "s in epochs", "s in all", *(" ".join(metric) for metric in METRICS))

    def train(name: str, of: Split, output: Path, seed: int = 0, init: Path | None = None) -> None:
        config = configure(None, {"model": model, "num_factors": num_factors, "seed": seed, "split_seed": 0})
        began = time.perf_counter()
        result = train_run(of, output, config, where, Life(quiet=True, init=init))
        assert result is not None
        table.add_row(name, *row(result, time.perf_counter() - began), *(figures(result) if of is split else ()))

    def figures(result: TrainResult) -> Sequence[str]:
        ranks = rank_held_out({"model": result.model}, split, where)["model"]
        return [f"{ranks[protocol].summary()[metric]:.4f}" for protocol, metric in METRICS]

    def row(result: TrainResult, seconds: float) -> Sequence[str]:
        return str(len(result.epochs)), f"{sum(each.seconds for each in result.epochs):.1f}", f"{seconds:.1f}"

    with TemporaryDirectory(prefix="ncf-retrain-") as scratch:
        folder = Path(scratch)
        earlier = before(split, new_users)
        train("the earlier data", earlier, folder / "earlier")
        for seed in range(seeds):
            train(f"all data, seed {seed}", split, folder / f"all-{seed}", seed)
            train(f"all data, seed {seed}, --init", split, folder / f"init-{seed}", seed, folder / "earlier")
    num = len(split.train) + len(split.held_out)
    share = 1 - (len(earlier.train) + len(earlier.held_out)) / num
    console = Console(width=120)
    console.print(
        f"{num:,} interactions, of which {100 * share:.2f} % are newer than the earlier data; {model}, {where}"
    )
    console.print(table)


if __name__ == "__main__":
    main()
