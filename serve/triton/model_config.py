"""config.pbtxt as Triton gets to see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


def read_config(text: str) -> Any:
    """The configuration as protobuf. Raises ValueError if the text is none."""
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"config.pbtxt cannot be read: {error}") from error


def for_all_versions(text: str) -> tuple[str, int]:
    """The configuration with every version directory served, and its max_batch_size (1 where it does not batch).

    Which versions there are is decided by what `serve` lays out, so that an old one can answer until a new one is
    ready. The model gets the name of its folder. Raises ValueError if the text is no configuration.
    """
    config = read_config(text)
    config.version_policy.all.SetInParent()
    config.ClearField("name")
    return text_format.MessageToString(config), max(1, config.max_batch_size)


def is_ensemble(text: str) -> bool:
    """Raises ValueError if the text is no configuration."""
    config = read_config(text)
    return bool(config.platform == "ensemble" or config.HasField("ensemble_scheduling"))


def steps(text: str) -> list[str]:
    """The models an ensemble is made of; none of anything else. Raises ValueError if the text is no configuration."""
    return list(dict.fromkeys(step.model_name for step in read_config(text).ensemble_scheduling.step))


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The configuration of a model that gets the name of its folder, and whose steps have other names.

    Raises ValueError if the text is no configuration.
    """
    config = read_config(text)
    config.ClearField("name")
    for step in config.ensemble_scheduling.step:
        step.model_name = names.get(step.model_name, step.model_name)
    return str(text_format.MessageToString(config))
