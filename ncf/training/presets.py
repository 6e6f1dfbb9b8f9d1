"""Named configurations to start from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ncf.data.splits import SplitOptions
from ncf.errors import InputError
from ncf.training.config import TrainConfig

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}

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
    "gowalla": TrainConfig(model="gmf", num_factors=512, loss="spectral", validation=0),  # on LightGCN's split
    **{f"paper-neumf-{factors}": replace(PAPER, num_factors=factors) for factors in (8, 16, 32, 64)},
    **{
        f"paper-neumf-{factors}-pretrained": replace(PAPER, num_factors=factors, pretrain=True)
        for factors in (8, 16, 32, 64)
    },
}


def configure(preset: str | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """A preset (a name, a .json file, or the default) with the settings of the user; None in `overrides` means not set.

    `seed` is the seed of the training, and of the split unless there is a `split_seed`. Raises InputError for an
    unknown preset or an invalid value.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    start = named(preset or "default")
    split = {each.name: given[each.name] for each in fields(SplitOptions) if each.name in given}
    own = {name: value for name, value in given.items() if name not in (*split, "split_seed") or name == "seed"}
    if "split_seed" in given:
        split["seed"] = given["split_seed"]
    config = replace(start, **own)
    return replace(config, split=replace(config.split, **split))


def named(preset: str) -> TrainConfig:
    """The configuration of a preset. Raises InputError if there is none of this name, or its file cannot be used."""
    if preset in PRESETS:
        return PRESETS[preset]
    if preset.endswith(".json"):
        return read_preset(Path(preset))
    raise InputError(
        f"no preset is called '{preset}'; there are {', '.join(PRESETS)}, and preset files, whose names end in .json"
    )


def preset_values(config: TrainConfig) -> dict[str, Any]:
    """The content of a preset file: the model, and every setting that is not the default of `ncf train`."""
    usual = PRESETS["default"]
    values = {name: getattr(config, name) for name in _kinds()}
    return {name: value for name, value in values.items() if name == "model" or value != getattr(usual, name)}


def read_preset(path: Path) -> TrainConfig:
    """The configuration of a preset file: a JSON object of settings; those that it does not name have their default.

    Raises InputError that names the file, and the setting that is unknown or has a value that cannot be.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot read the preset {path}: {error.strerror}; give a file, or {', '.join(PRESETS)}"
        ) from error
    except ValueError as error:
        raise InputError(f"preset {path} is not JSON ({error}); `ncf tune` writes such a file") from error
    if not isinstance(values, dict):
        raise InputError(f'preset {path} is no JSON object; it must be one of settings, such as {{"num_factors": 64}}')
    kinds = _kinds()
    for name, value in values.items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(kinds)}"
            raise InputError(f"preset {path}: setting '{name}' is unknown; {hint}")
        wanted = kinds[name]
        # Not isinstance, for which true is a whole number.
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise InputError(f"preset {path}: {name} is {json.dumps(value)}; it must be {KINDS[wanted]}")
    try:
        return replace(PRESETS["default"], **{name: kinds[name](value) for name, value in values.items()})
    except InputError as error:
        raise InputError(f"preset {path}: {error}") from error


def _kinds() -> dict[str, type]:
    """The settings of a preset and their types; how data are split, the seed, and refit are no part of one."""
    hints = get_type_hints(TrainConfig)
    return {
        each.name: next((kind for kind in get_args(hints[each.name]) if kind is not type(None)), hints[each.name])
        for each in fields(TrainConfig)
        if each.name not in ("seed", "split", "refit")
    }
