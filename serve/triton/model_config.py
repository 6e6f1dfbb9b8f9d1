"""Reads a model's config.pbtxt, and writes the configuration that Triton reads in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


def read_config(text: str) -> Any:
    """The configuration as protobuf. Raises ValueError if the text is not a configuration."""
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"config.pbtxt cannot be read: {error}") from error


def for_all_versions(text: str, instances: int) -> tuple[str, int]:
    """The configuration with a version policy of all versions, and its max_batch_size (1 if it does not batch).

    `serve` decides which versions are served by the folders that it lets Triton see, so that an old version can answer
    until the new version is ready. The model's name becomes that of its folder. `instances` is the count of groups of
    instances that have none. Raises ValueError if the text is not a configuration.
    """
    config = read_config(text)
    config.version_policy.all.SetInParent()
    config.ClearField("name")
    for group in config.instance_group:
        group.count = group.count or instances
    return text_format.MessageToString(config), max(1, config.max_batch_size)


def is_ensemble(text: str) -> bool:
    """Whether the model is an ensemble. Raises ValueError if the text is not a configuration."""
    config = read_config(text)
    return bool(config.platform == "ensemble" or config.HasField("ensemble_scheduling"))


def steps(text: str) -> list[str]:
    """The models of an ensemble's steps; empty for other models. Raises ValueError if the text is no configuration."""
    return list(dict.fromkeys(step.model_name for step in read_config(text).ensemble_scheduling.step))


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The configuration with the model's name removed (it becomes that of its folder) and its steps renamed.

    Raises ValueError if the text is not a configuration.
    """
    config = read_config(text)
    config.ClearField("name")
    for step in config.ensemble_scheduling.step:
        step.model_name = names.get(step.model_name, step.model_name)
    return str(text_format.MessageToString(config))
