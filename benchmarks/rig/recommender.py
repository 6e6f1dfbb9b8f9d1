"""Recommenders with random weights, exported as `ncf export` does; a request's time does not depend on the weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from ncf.data.interactions import IdIndex
from ncf.export.export import ExportedModel, export
from ncf.export.serving_settings import PartSettings
from ncf.models.neural import build_model
from ncf.models.seen import SeenItems
from ncf.training.config import TrainConfig
from ncf.training.run_directory import Run

SEEN_EACH = 150  # interactions of each user


@dataclass(frozen=True)
class Recommender:
    """An exported model with random weights; `repository` contains its two models and nothing else."""

    name: str
    run: Run
    exported: ExportedModel
    repository: Path

    @property
    def num_users(self) -> int:
        return len(self.run.users)

    @property
    def num_items(self) -> int:
        return len(self.run.items)

    def seen(self, user: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Indices of the items that the user has seen."""
        indptr = self.run.known.indptr
        return self.run.known.items[indptr[user] : indptr[user + 1]].numpy()


def random_recommender(
    repository: Path, model: str, factors: int, users: int, items: int, device: str = "cpu"
) -> Recommender:
    """Make a model with random weights and export it into `repository`, which is created."""
    name = f"{model}{factors}_{items}"
    torch.manual_seed(0)
    run = Run(
        Path(name),
        TrainConfig(model=model, num_factors=factors),
        text_ids("u", users),
        text_ids("item-", items),
        random_seen(users, items),
        build_model(model, users, items, factors).eval(),
        held_out="",
    )
    # As many instances as `serve` runs where the number is left open, so that Triton alone has them, too.
    serving = {"query": PartSettings(instances=len(os.sched_getaffinity(0)))} if device == "cpu" else None
    return Recommender(name, run, export(run, repository, name, device=device, serving=serving), repository)


def random_seen(users: int, items: int) -> SeenItems:
    """About SEEN_EACH random items for each user."""
    user = torch.arange(users).repeat_interleave(SEEN_EACH)
    return SeenItems.of(user, torch.randint(items, (len(user),)), users, items)


def text_ids(prefix: str, count: int) -> IdIndex:
    """Sorted ids such as u00000017."""
    return IdIndex(pl.select(pl.lit(prefix) + pl.int_range(count).cast(pl.String).str.zfill(8)).to_series())
