"""Presets on MovieLens-1M over several seeds, each beside EASE and tuned iALS with a paired test over users."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import orjson
import torch

from ncf.data.interactions import Interactions
from ncf.data.load import load_split
from ncf.data.splits import Split
from ncf.evaluation.margins import paired_test
from ncf.evaluation.metrics import row_values
from ncf.evaluation.ranking import rank_held_out
from ncf.models.closed_form import ease, ials
from ncf.models.scorers import Factors, ItemItem, Popularity, Scorer
from ncf.models.seen import SeenItems
from ncf.training import recipe
from ncf.training.config import TrainConfig
from ncf.training.loop import Watch
from ncf.training.presets import PRESETS, configure
from ncf.training.run import choose_device

BASELINES = ("popularity", "EASE, l2 1320", "iALS, 192 factors, 12 epochs")
PROTOCOLS = ("sampled", "full")


def baseline(name: str, fit: Interactions, device: torch.device) -> Scorer:
    """The baseline with the best settings that are known for this data, fitted on `fit`."""
    if name == "popularity":
        return Popularity(torch.as_tensor(fit.popularity(), device=device))
    seen = SeenItems.of_interactions(fit, device)
    return ItemItem(seen, ease(seen, 1320.0)) if name.startswith("EASE") else Factors(*ials(seen, 192))


def measured(name: str, seed: int, validation: int, split: Split, device: torch.device) -> dict[str, object]:
    """Ranks of the held-out items (0 is best) by both protocols, and the seconds of training.

    A baseline is fitted on what a preset with as many `validation` items is fitted on.
    """
    began = time.perf_counter()
    if name in BASELINES:
        scorer: Scorer = baseline(name, recipe.cut(split, TrainConfig(validation=validation))[0], device)
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
        tested = paired_test(row_values(mine), row_values(its), users.repeat(len(runs)))
        cells += [f"{each.difference:+.4f} (z {each.z:.1f})" for each in (tested["HR@10"], tested["NDCG@10"])]
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

    Each preset is compared with baselines that are fitted on the same interactions: on all of train, or on what is left
    where an item of each user chooses the epoch. Results that are in the folder are not measured again.

    \b
    Example:
      python -m benchmarks.training.accuracy --data ml-1m --preset ml-1m-fast --preset ml-1m-best
    """
    split, where = load_split(data), choose_device(device)
    users = torch.as_tensor(split.held_out.user_index)
    folder.mkdir(parents=True, exist_ok=True)
    runs: dict[tuple[str, int], list[dict[str, object]]] = {}
    cut = {name: PRESETS[name].validation for name in presets}
    kinds = [(name, validation) for validation in sorted({*cut.values()} or {0}) for name in BASELINES]
    for name, validation in (*kinds, *cut.items()):
        for seed in range(1 if name in BASELINES else seeds):
            path = folder / f"{name.split(',')[0]}-validation-{validation}-{seed}.json"
            if not path.exists():
                path.write_bytes(orjson.dumps(measured(name, seed, validation, split, where)))
            runs.setdefault((name, validation), []).append(orjson.loads(path.read_bytes()))
    click.echo("", err=True)
    click.echo("| model | sampled HR@10 | NDCG@10 | full HR@10 | NDCG@10 | s |\n|---|---|---|---|---|---|")
    for (name, validation), each in runs.items():
        took = np.mean([run["seconds"] for run in each])  # type: ignore[arg-type]
        fitted = f", without {validation} of each user" if validation and name in BASELINES else ""
        click.echo(f"| {name}{fitted} | {' | '.join(f'{value:.4f}' for value in figures(each))} | {took:.0f} |")
    for name, validation in cut.items():
        for other in BASELINES[1:]:
            found = " | ".join(margins(runs[name, validation], runs[other, validation], users))
            click.echo(f"| {name} against {other.split(',')[0]} | {found} | |")


if __name__ == "__main__":
    main()
