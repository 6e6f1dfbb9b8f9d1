"""What a training run is told, and its named presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ncf.errors import InputError
from ncf.interactions import Columns

MODEL_NAMES = ("gmf", "mlp", "neumf")
DEVICES = ("auto", "cpu", "gpu")
DEFAULT_K = 100


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of one run. `batch_size` counts samples: a positive comes with `num_train_negatives` more."""

    model: str = "neumf"
    num_factors: int = 16
    num_layers: int = 3
    dropout: float = 0.0
    num_train_negatives: int = 4
    batch_size: int = 8192
    learning_rate: float = 0.003
    l2: float = 0.0
    epochs: int = 20
    patience: int = 4
    seed: int = 0
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        if self.model not in MODEL_NAMES:
            raise InputError(f"model is '{self.model}'; choose {', '.join(MODEL_NAMES)}")
        for name, low, high in (
            ("num_factors", 1, 8192), ("num_layers", 1, 12), ("num_train_negatives", 1, 10_000),
            ("epochs", 1, 10**9), ("patience", 1, 10**9), ("seed", 0, 2**63 - 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                bound = f"least {low}" if value < low else f"most {high}"
                raise InputError(f"{name} is {value}; it must be at {bound}")
        if self.batch_size < 1 + self.num_train_negatives:
            raise InputError(
                f"batch_size is {self.batch_size}; one positive with its {self.num_train_negatives} negatives needs "
                f"at least {1 + self.num_train_negatives}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate is {self.learning_rate}; it must be above 0 and finite")
        if not 0 <= self.l2 < math.inf:
            raise InputError(f"l2 is {self.l2}; it must be at least 0 and finite")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        known = {name: values[name] for name in (f.name for f in fields(cls)) if name in values}
        return cls(**{**known, "columns": Columns(**values.get("columns", {}))})


PRESETS: dict[str, TrainConfig] = {
    "default": TrainConfig(),
    # MovieLens-1M in the paper's format: chosen on the hold-out among the settings in docs/log.md.
    "ml-1m": TrainConfig(model="gmf", num_factors=64, num_train_negatives=8, batch_size=18000, l2=0.008, epochs=30),
}


def configure(preset: str | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """A preset (or the defaults) with what the user set beside it; None in `overrides` means not set."""
    if preset is not None and preset not in PRESETS:
        raise InputError(f"no preset is called '{preset}'; there are {', '.join(PRESETS)}")
    return replace(PRESETS[preset or "default"], **{k: v for k, v in overrides.items() if v is not None})
