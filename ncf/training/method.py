"""What the ways of training share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ncf.data.interactions import Interactions
from ncf.models.neural import NCF
from ncf.training.config import TrainConfig
from ncf.training.world import World

OnStep = Callable[[int, int, int, float, float], None]


class Method(Protocol):
    """A way of training. Its state is what the next epoch depends on in addition to the weights of the model."""

    model: NCF
    samples: int  # in an epoch

    def epoch(self, number: int, on_step: OnStep) -> float:
        """Pass once over the data; returns the mean loss of a sample."""
        ...

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


def learning_rate_at(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of step 0..steps-1 of the whole training: constant, or falling to 0 by half a cosine."""
    assert config.learning_rate is not None
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def seed_epoch(seed: int, number: int, generator: torch.Generator, world: World | None = None) -> None:
    """Seed shuffle, negatives and dropout by the number of the epoch and the process: no random state outlives it."""
    mixed = (seed * 1_000_003 + number) * 8191 + (world.rank if world else 0)
    torch.manual_seed(mixed % 2**63)
    generator.manual_seed(mixed % 2**63)


def uses_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether products run in bfloat16: by the configuration, or for `auto` if the hardware supports it."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # there is no public function
    return bool(native)


def relative_weight(fit: Interactions, device: torch.device) -> Tensor | None:
    """The weights of the interactions, float32 [N], scaled to a mean of 1; None if the data have no weights."""
    return (
        None
        if fit.weight is None
        else torch.as_tensor(fit.weight / fit.weight.mean(dtype=np.float64), dtype=torch.float32, device=device)
    )


def sorted_weight(fit: Interactions, device: torch.device) -> Tensor | None:
    """The weights of the interactions as in `relative_weight`, sorted by user, then by item, as in `SeenItems`."""
    weight = relative_weight(fit, device)
    if weight is None:
        return None
    user, item = (torch.as_tensor(index, device=device).long() for index in (fit.user_index, fit.item_index))
    return weight[(user * fit.num_items + item).argsort()]
