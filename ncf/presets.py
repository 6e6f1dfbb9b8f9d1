"""Named settings to start from, each with what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ncf.config import TrainConfig
from ncf.errors import InputError

PRESETS: dict[str, TrainConfig] = {
    "default": TrainConfig(),
}


def configure(preset: str | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """A preset (or the defaults) with what the user set beside it; None in `overrides` means not set."""
    if preset is not None and preset not in PRESETS:
        raise InputError(f"no preset is called '{preset}'; there are {', '.join(PRESETS)}")
    return replace(PRESETS[preset or "default"], **{k: v for k, v in overrides.items() if v is not None})
