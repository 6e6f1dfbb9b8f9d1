"""Named configurations to start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ncf.data.splits import SplitOptions
from ncf.errors import InputError
from ncf.training.config import TrainConfig

# For MovieLens-1M in the paper's format. Every number was chosen on items cut from the training data (docs/log.md);
# with these fixed settings, the folded models are trained on all training data.
ONE = TrainConfig(model="gmf", num_factors=192, negatives="exact")
FOLDED = replace(ONE, fold_factors=256, validation=0)
# The paper's NeuMF: 3 layers, 4 drawn negatives, no regularisation; but larger batches than 256, at a larger rate.
PAPER = TrainConfig(model="neumf", negatives="4", batch_size=8192, learning_rate=0.003, epochs=20, patience=4)

PRESETS: dict[str, TrainConfig] = {
    "default": TrainConfig(
        model="gmf", num_factors=32
    ),  # better than NeuMF on all data that was tried (docs/results.md)
    "ml-1m": replace(ONE, l2=0.002),
    "ml-1m-fast": replace(FOLDED, closed_form=0.3, members=2, epochs=34),
    "ml-1m-best": replace(FOLDED, closed_form=0.3, members=6, among_all_members=6),
    "ml-1m-pure": replace(FOLDED, members=6, softmax_members=4),
    **{f"paper-neumf-{factors}": replace(PAPER, num_factors=factors) for factors in (8, 16, 32, 64)},
    **{
        f"paper-neumf-{factors}-pretrained": replace(PAPER, num_factors=factors, pretrain=True)
        for factors in (8, 16, 32, 64)
    },
}


def configure(preset: str | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """A preset (or the default) with the settings of the user; None in `overrides` means not set.

    `seed` is the seed of the training and of the split. Raises InputError for an unknown preset or an invalid value.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"no preset is called '{preset}'; there are {', '.join(PRESETS)}")
    given = {name: value for name, value in overrides.items() if value is not None}
    start = PRESETS[preset or "default"]
    split = {each.name: given[each.name] for each in fields(SplitOptions) if each.name in given}
    own = {name: value for name, value in given.items() if name not in split or name == "seed"}
    return replace(start, split=replace(start.split, **split), **own)
