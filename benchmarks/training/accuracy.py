"""Presets on MovieLens-1M over several seeds, each beside EASE and tuned iALS with a paired test over users."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import orjson
import torch

from ncf.data.load import load_split
from ncf.data.splits import Split
from ncf.evaluation.metrics import paired_test
from ncf.evaluation.ranking import rank_held_out
from ncf.models.closed_form import ease, ials
from ncf.models.scorers import Factors, ItemItem, Popularity, Scorer
from ncf.models.seen import SeenItems
from ncf.training import recipe
from ncf.training.loop import Watch
from ncf.training.presets import PRESETS, configure
from ncf.training.run import choose_device

BASELINES = ("popularity", "EASE, l2 1320", "iALS, 192 factors, 12 epochs")
PROTOCOLS = ("sampled", "full")


def baseline(name: str, split: Split, device: torch.device) -> Scorer:
    """The baseline with the best settings that are known for this data."""
    if name == "popularity":
        return Popularity(torch.as_tensor(split.train.popularity(), device=device))
    seen = SeenItems.of_interactions(split.train, device)
    return ItemItem(seen, ease(seen, 1320.0)) if name.startswith("EASE") else Factors(*ials(seen, 192))


def measured(name: str, seed: int, split: Split, device: torch.device) -> dict[str, object]:
    """Ranks of the held-out items (0 is best) by both protocols, and the seconds of training."""
    began = time.perf_counter()
    if name in BASELINES:
        scorer: Scorer = baseline(name, split, device)
    else:
        plan = recipe.plan(split, replace(configure(name, {}), seed=seed), device)
        watch = Watch(
            on_epoch=lambda epoch: click.echo(f"\r{name}, seed {seed}, epoch {epoch.epoch}  ", nl=False, err=True)
        )
        scorer = recipe.train(plan, device, watch).model
    seconds = time.perf_counter() - began
    ranks = rank_held_out({"it": scorer}, split, device)["it"]
    return {"seconds": seconds, **{protocol: ranks[protocol].rank.tolist() for protocol in PROTOCOLS}}


def figures(runs: list[dict[str, object]]) -> list[float]:
    """HR@10 and NDCG@10 by both protocols, means over runs."""
    found = []
    for protocol in PROTOCOLS:
        rank = np.array([run[protocol] for run in runs])
        found += [(rank < 10).mean(), np.where(rank < 10, 1 / np.log2(rank + 2.0), 0).mean()]
    return [float(value) for value in found]


def margins(runs: list[dict[str, object]], other: list[dict[str, object]], users: torch.Tensor) -> list[str]:
    """Differences and z of the four figures; the mean of a user over the runs is one observation."""
    cells = []
    for protocol in PROTOCOLS:
        mine = torch.tensor([run[protocol] for run in runs]).flatten()
        its = torch.tensor([run[protocol] for run in other] * (len(runs) // len(other))).flatten()
        tested = paired_test(mine, its, users.repeat(len(runs))).values()
        cells += [f"{margin.difference:+.4f} (z {margin.z:.1f})" for margin in tested]
    return cells


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="MovieLens-1M in the paper's format."
)
@click.option(
    "--preset", "presets", multiple=True, type=click.Choice(list(PRESETS)), help="A preset to measure; may be repeated."
)
@click.option("--seeds", default=3, show_default=True, help="Trainings of each preset.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default="build/accuracy",
    help="Folder for the results of each training.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
def main(data: Path, presets: tuple[str, ...], seeds: int, folder: Path, device: str) -> None:
    """Train, rank the held-out items of the test, and print a table in Markdown.

    Results that are in the folder are not measured again.

    \b
    Example:
      python -m benchmarks.training.accuracy --data ml-1m --preset ml-1m-fast --preset ml-1m-best
    """
    split, where = load_split(data), choose_device(device)
    users = torch.as_tensor(split.held_out.user_index)
    folder.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[dict[str, object]]] = {}
    for name in (*BASELINES, *presets):
        for seed in range(1 if name in BASELINES else seeds):
            path = folder / f"{name.split(',')[0]}-{seed}.json"
            if not path.exists():
                path.write_bytes(orjson.dumps(measured(name, seed, split, where)))
            runs.setdefault(name, []).append(orjson.loads(path.read_bytes()))
    click.echo("", err=True)
    click.echo("| model | sampled HR@10 | NDCG@10 | full HR@10 | NDCG@10 | s |\n|---|---|---|---|---|---|")
    for name, each in runs.items():
        took = np.mean([run["seconds"] for run in each])  # type: ignore[arg-type]
        click.echo(f"| {name} | {' | '.join(f'{value:.4f}' for value in figures(each))} | {took:.0f} |")
    for name in presets:
        for other in BASELINES[1:]:
            found = " | ".join(margins(runs[name], runs[other], users))
            click.echo(f"| {name} against {other.split(',')[0]} | {found} | |")


if __name__ == "__main__":
    main()
