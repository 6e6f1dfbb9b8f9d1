"""New users that are folded in by their history, beside the same users trained: HR@10, NDCG@10, and the time of a call.

A model is trained twice with the same settings: on all users, and without a share of them. These users are then folded
into the second model from their training interactions, and both models rank their held-out items.
"""

from __future__ import annotations

import copy
import statistics
import time
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ncf.data.interactions import IntArray, from_table
from ncf.data.load import load_split
from ncf.data.protocols import leave_one_out
from ncf.data.sample import CATALOGUES, generate
from ncf.data.splits import HeldOut, Split
from ncf.errors import InputError
from ncf.evaluation.ranking import Candidates, evaluate_full, evaluate_sampled
from ncf.models.fold_in import FoldIn, fit_fold_in
from ncf.models.neural import NCF, GMFBranch, MLPBranch
from ncf.models.scorers import Popularity, Scorer
from ncf.models.seen import SeenItems, seen_positions
from ncf.training import recipe
from ncf.training.config import MODEL_NAMES, TrainConfig
from ncf.training.loop import Watch
from ncf.training.presets import PRESETS, configure
from ncf.training.progress import TrainingProgress

CPU = torch.device("cpu")
METRICS = (("sampled", "HR@10"), ("sampled", "NDCG@10"), ("full", "HR@10"), ("full", "NDCG@10"))
ALL = 2**62


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("data")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), default="default")
@click.option("--model", type=click.Choice(MODEL_NAMES), help="[default: the preset's]")
@click.option("--num-factors", type=int, help="[default: the preset's]")
@click.option(
    "--patience", default=10, help="High, so that an early stop of one training does not decide the comparison."
)
@click.option(
    "--share",
    default=0.1,
    type=click.FloatRange(0.0, 0.9, min_open=True),
    help="Share of the users that the second model does not know.",
)
@click.option("--seed", default=0, help="Seed of the choice of these users.")
def main(
    data: str, preset: str, model: str | None, num_factors: int | None, patience: int, share: float, seed: int
) -> None:
    """Compare folded-in users with trained ones on DATA: food, fashion, or a file or folder as for `ncf train`.

    \b
    Examples:
      python -m benchmarks.training.fold_in food --model gmf
      python -m benchmarks.training.fold_in path/to/ml-1m --preset ml-1m
    """
    try:
        config = configure(preset, {"model": model, "num_factors": num_factors, "patience": patience})
        if data in CATALOGUES:
            table = generate(CATALOGUES[data]).rename({"user_id": "user", "item_id": "item"})
            split = leave_one_out(from_table(table), config.seed)
        else:
            split = load_split(Path(data), config.split)
    except InputError as error:
        raise click.ClickException(str(error)) from error
    compare(split, config, share, seed)


def compare(split: Split, config: TrainConfig, share: float, seed: int) -> None:
    users = np.unique(split.held_out.user_index)
    new = np.random.default_rng(seed).choice(users, max(1, round(share * len(users))), replace=False)
    others, held_out = part(split, ~np.isin(np.arange(split.train.num_users), new)), part(split, new).held_out
    trained, base = fit(split, config), fit(others, config)
    history = seen(split)
    user = torch.as_tensor(held_out.user_index)
    began = time.perf_counter()
    fold_in = fit_fold_in(base.catalogue(), seen(others, also_held_out=True))
    seconds = time.perf_counter() - began
    scorers: dict[str, Scorer] = {"trained": trained}
    for most in (ALL, 20, 5, 1):
        name = "folded in" if most == ALL else f"… from {most} at random"
        scorers[name] = with_users(base, user, fold_in(*padded(history, user, most)))
    scorers["popularity"] = Popularity(torch.as_tensor(others.train.popularity()))
    candidates = Candidates.of(held_out, split, CPU, config.seed)
    reports = {
        name: {"sampled": evaluate_sampled(scorer, candidates), "full": evaluate_full(scorer, held_out, history)}
        for name, scorer in scorers.items()
    }
    table = Table("", *(f"{protocol} {metric}" for protocol, metric in METRICS), "share of trained")
    for name, report in reports.items():
        ratio = report["sampled"]["HR@10"] / max(1e-9, reports["trained"]["sampled"]["HR@10"])
        table.add_row(name, *(f"{report[protocol][metric]:.4f}" for protocol, metric in METRICS), f"{ratio:.3f}")
    console = Console(width=120, highlight=False)
    items = statistics.median(history.counts()[user].tolist())
    console.print(f"{config.model}, {config.num_factors} factors; {len(user)} new users with {items:g} items at median")
    console.print(table)
    times = ", ".join(f"{length} items {p50(fold_in, history.num_items, length):.0f}" for length in (5, 50, 200))
    console.print(f"fitted in {seconds:.2f} s; µs to fold in one user on one thread (p50): {times}")


def part(split: Split, users: IntArray | npt.NDArray[np.bool_]) -> Split:
    """The split of some users (indices, or a mask of all users); ids and indices do not change."""
    chosen = np.zeros(split.train.num_users, bool)
    chosen[users] = True
    held_out, rows = split.held_out, chosen[split.held_out.user_index]
    negatives = None if held_out.negatives is None else held_out.negatives[rows]
    return Split(
        split.train.take(chosen[split.train.user_index]),
        HeldOut(held_out.user_index[rows], held_out.item_index[rows], negatives),
    )


def fit(split: Split, config: TrainConfig) -> NCF:
    plan = recipe.plan(split, config, CPU)
    with TrainingProgress(recipe.stage_epochs(plan)) as progress:
        return recipe.train(plan, CPU, Watch(progress.on_stage, progress.on_step, progress.on_epoch)).model


def seen(split: Split, also_held_out: bool = False) -> SeenItems:
    rows = [split.train, split.held_out] if also_held_out else [split.train]
    user, item = (np.concatenate([getattr(r, name) for r in rows]) for name in ("user_index", "item_index"))
    return SeenItems.of(user, item, split.train.num_users, split.train.num_items)


def padded(history: SeenItems, user: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Histories [B, L] of users [B], at most `most` random items each; and a mask [B, L] of the places with an item."""
    row, position = seen_positions(history.indptr, user)
    order = (row + torch.rand(len(row), generator=torch.Generator().manual_seed(0), dtype=torch.float64)).argsort()
    counts = history.counts()[user]
    nth = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    items = torch.zeros((len(user), int(counts.max())), dtype=torch.int64)
    items[row, nth] = history.items[position[order]]
    items = items[:, :most]
    return items, torch.arange(items.shape[1]) < counts.unsqueeze(1)


def with_users(model: NCF, user: Tensor, embeddings: list[Tensor]) -> NCF:
    """A copy of the model in which users [B] have these embeddings, [B, d] for each branch."""
    model = copy.deepcopy(model)
    for branch, rows in zip(model.branches, embeddings, strict=True):
        assert isinstance(branch, GMFBranch | MLPBranch)
        branch.user_embedding.weight.data[user] = rows
    return model


def p50(fold_in: FoldIn, num_items: int, length: int, calls: int = 500) -> float:
    """Median µs of a call for one user, by the scripted module that is exported."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    scripted, times = torch.jit.script(fold_in.eval()), []
    history, present = torch.randint(num_items, (calls, 1, length)), torch.ones((1, length), dtype=torch.bool)
    with torch.inference_mode():
        for row in history:
            began = time.perf_counter()
            scripted(row, present)
            times.append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    return 1e6 * statistics.median(times[calls // 5 :])


if __name__ == "__main__":
    main()
