"""Training for tests: without files, and what a training that was killed leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ncf.data.load import load_split
from ncf.data.splits import Split
from ncf.evaluation.comparison import Report
from ncf.evaluation.ranking import rank_held_out
from ncf.models.neural import NCF
from ncf.models.scorers import Popularity
from ncf.training import recipe
from ncf.training.config import TrainConfig
from ncf.training.loop import TrainResult, Watch

CPU = torch.device("cpu")


def train(split: Split, config: TrainConfig, watch: Watch | None = None, **overrides: Any) -> TrainResult:
    """What `ncf train` does between reading and writing."""
    return recipe.train(recipe.plan(split, replace(config, **overrides), CPU), CPU, watch)


def figures(model: NCF, split: Split) -> Report:
    """The figures of a model and of popularity on all of train; EASE and iALS are not fitted."""
    scorers = {"model": model.eval(), "popularity": Popularity(torch.as_tensor(split.train.popularity()))}
    found = rank_held_out(scorers, split, CPU)
    return {name: {way: ranks.summary() for way, ranks in ways.items()} for name, ways in found.items()}


def unfinished(folder: Path, data: Path, config: TrainConfig) -> None:
    """A run directory as a training that was killed in its first epoch leaves it, and a note of the user's in it."""
    settings = recipe.plan(load_split(data), config, CPU).config.to_dict()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**settings, "data": str(data)}))
    (folder / "versions.json").write_text(json.dumps({"torch": torch.__version__}))
    (folder / "metrics.jsonl").write_text("")
    (folder / "notes.txt").write_text("precious")


def content(*folders: Path) -> dict[Path, bytes]:
    """Every file below the folders with its bytes."""
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
