"""Read the settings of `ncf export --serving FILE`: how Triton batches and runs the models of a recommender."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ncf.errors import InputError
from ncf.export.repository import PartNames
from ncf.export.triton_config import DynamicBatching, ModelConfig

PARTS = PartNames._fields
# Smallest and largest value of each field.
LIMITS = {
    "max_batch_size": (1, 1_000_000),
    "max_queue_delay_microseconds": (0, 1_000_000),
    "instances": (1, 64),
}


@dataclass(frozen=True)
class PartSettings:
    """Settings of one part; None keeps the default. `instances` is the count of the instance group."""

    max_batch_size: int | None = None
    max_queue_delay_microseconds: int | None = None
    instances: int | None = None

    def apply(self, config: ModelConfig) -> ModelConfig:
        """The configuration with these values; preferred sizes above the batch size are cut, such warm-ups dropped."""
        rows = self.max_batch_size or config.max_batch_size
        batching = config.dynamic_batching
        delay = self.max_queue_delay_microseconds
        return replace(
            config,
            max_batch_size=rows,
            dynamic_batching=DynamicBatching(
                sorted({min(size, rows) for size in batching.preferred_batch_size}),
                batching.max_queue_delay_microseconds if delay is None else delay,
            ),
            instance_group=[replace(group, count=self.instances or group.count) for group in config.instance_group],
            model_warmup=[warmup for warmup in config.model_warmup if warmup.batch_size <= rows],
        )


def read_serving(path: Path) -> dict[str, PartSettings]:
    """Settings by part from JSON such as {"score": {"max_batch_size": 1024, "instances": 2}}.

    Raises InputError for a file that cannot be read, and for an unknown part or field or an invalid value.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; choose another --serving") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}; correct it, or choose another --serving") from error
    if not isinstance(content, dict):
        raise InputError(f'{path} holds no object; write for example {{"score": {{"max_batch_size": 1024}}}}')
    return {part: _part(path, part, values) for part, values in content.items()}


def _part(path: Path, part: str, values: Any) -> PartSettings:
    if part not in PARTS:
        raise InputError(f"{path} names the part '{part}'; there are {', '.join(PARTS)}")
    if not isinstance(values, Mapping):
        raise InputError(f"{part} in {path} is {json.dumps(values)}; give it an object of {', '.join(LIMITS)}")
    names = [field.name for field in fields(PartSettings)]
    for name, value in values.items():
        if name not in names:
            raise InputError(f"{part} in {path} has the field '{name}'; there are {', '.join(names)}")
        least, most = LIMITS[name]
        if type(value) is not int or not least <= value <= most:
            raise InputError(
                f"{part}.{name} in {path} is {json.dumps(value)}; give a whole number from {least} to {most:,}"
            )
    return PartSettings(**values)
