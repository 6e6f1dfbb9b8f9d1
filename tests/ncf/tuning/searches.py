"""A search of small data, and what it leaves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl

from ncf.training.config import TrainConfig
from ncf.tuning.results import Row
from ncf.tuning.search import Limits, search
from tests.support.training import CPU

TRIALS, EPOCHS = 10, 8
CONFIG = TrainConfig(model="gmf", num_factors=8, negatives="exact", epochs=EPOCHS, l2=0.05)  # too much of it
FIXED = ("model", "num_factors", "negatives", "epochs")


def find(data: Path | Any, folder: Path, trials: int = TRIALS, config: TrainConfig = CONFIG, **more: Any) -> Row:
    paths = [data] if isinstance(data, Path) else data
    return search(paths, folder, config, FIXED, CPU, Limits(trials, **more))


def table(folder: Path) -> pl.DataFrame:
    """What is the same in every search with the same seed."""
    return pl.read_csv(folder / "trials.csv").drop("seconds")


def copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target
