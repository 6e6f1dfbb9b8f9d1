"""Training without files, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ncf.data.splits import Split
from ncf.training import recipe
from ncf.training.config import TrainConfig
from ncf.training.loop import TrainResult, Watch

CPU = torch.device("cpu")


def train(split: Split, config: TrainConfig, watch: Watch | None = None, **overrides: Any) -> TrainResult:
    """What `ncf train` does between reading and writing."""
    return recipe.train(recipe.plan(split, replace(config, **overrides), CPU), CPU, watch)
