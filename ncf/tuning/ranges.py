"""The settings that a search varies, and their bounds: of `ncf tune`, and of the job in docs/training-jobs.md."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from ncf.training.config import MODEL_NAMES, TrainConfig

TOWERS = ("mlp", "neumf")


@dataclass(frozen=True)
class Range:
    """The bounds of a setting, both included; whole numbers if both are. `log` spreads values by their logarithm."""

    setting: str
    low: float
    high: float
    log: bool = True
    models: tuple[str, ...] = MODEL_NAMES

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int)

    def __str__(self) -> str:
        low, high = (np.format_float_positional(bound, trim="-") for bound in (self.low, self.high))
        return f"{low} to {high}, {'logarithmic' if self.log else 'linear'}"

    def nearest(self, value: Any) -> float:
        """A value of a configuration as a number within the bounds."""
        number = min(max(float(value), self.low), self.high)
        return int(number) if self.whole else number

    def setting_of(self, value: float) -> Any:
        """The value as the configuration has it; four digits are enough, and can be read."""
        if self.setting == "negatives":
            return str(value)
        return value if self.whole else float(f"{value:.4g}")


TOWER = (Range("num_factors", 8, 64, models=TOWERS), Range("num_layers", 1, 4, log=False, models=TOWERS))
ALL_CELLS = (Range("num_factors", 16, 256, models=("gmf",)), *TOWER, Range("learning_rate", 0.003, 0.1))
DROPOUT = Range("dropout", 0.0, 0.5, log=False)
# By the way of training: over all cells with loss bce, softmax, squares, spectral; with drawn negatives. The best
# settings in docs/log.md and docs/results.md lie inside, none at an end.
RANGES: dict[str, tuple[Range, ...]] = {
    "exact": (*ALL_CELLS, Range("l2", 0.00001, 0.05), DROPOUT, Range("negative_weight", 2.0, 256.0)),
    "softmax": (*ALL_CELLS, Range("l2", 0.004, 0.4), DROPOUT),
    "squares": (
        Range("num_factors", 16, 512, models=("gmf",)),
        Range("l2", 0.0003, 0.05),
        Range("negative_weight", 2.0, 256.0),
    ),
    "spectral": (Range("num_factors", 16, 512, models=("gmf",)),),
    "sampled": (
        Range("num_factors", 8, 128, models=("gmf",)),
        *TOWER,
        Range("learning_rate", 0.0003, 0.03),
        Range("l2", 0.00001, 0.05),
        DROPOUT,
        Range("negatives", 1, 16),
    ),
}


def way_of(config: TrainConfig) -> str:
    """The way of training of a configuration without open settings: a key of RANGES."""
    if config.negatives != "exact":
        return "sampled"
    return "exact" if config.loss == "bce" else config.loss


def ranges_for(config: TrainConfig, fixed: Collection[str]) -> tuple[Range, ...]:
    """The ranges for the model and the way of training of a configuration without open settings, but for `fixed`."""
    return tuple(each for each in RANGES[way_of(config)] if config.model in each.models and each.setting not in fixed)
