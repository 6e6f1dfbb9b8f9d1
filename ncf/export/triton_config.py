"""`config.pbtxt` as dataclasses with the field names of Triton.

Field names are those of Triton's ModelConfig message
(https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto); a field left at None or
empty is not written. There is no `name` field: the name of the directory is the name of the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any


class Word(str):
    """An enum value, which is written without quotes."""


TYPE_INT64, TYPE_FP32 = Word("TYPE_INT64"), Word("TYPE_FP32")

INSTANCE_KINDS = {"cpu": Word("KIND_CPU"), "gpu": Word("KIND_GPU"), "auto": Word("KIND_AUTO")}


@dataclass(frozen=True)
class Tensor:
    """An input or output; `dims` without the batch dimension."""

    name: str
    data_type: Word
    dims: list[int]


@dataclass(frozen=True)
class InstanceGroup:
    kind: Word
    count: int = 1


@dataclass(frozen=True)
class DynamicBatching:
    preferred_batch_size: list[int]
    max_queue_delay_microseconds: int


@dataclass(frozen=True)
class WarmupInput:
    """Either zeros, or the bytes of a file in the folder `warmup` of the model."""

    data_type: Word
    dims: list[int]
    zero_data: bool | None = True
    input_data_file: str | None = None


@dataclass(frozen=True)
class ModelWarmup:
    name: str
    batch_size: int
    inputs: dict[str, WarmupInput]
    count: int = 1


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of one model; `to_pbtxt` returns the text of the file."""

    max_batch_size: int
    input: list[Tensor]
    output: list[Tensor]
    instance_group: list[InstanceGroup]
    dynamic_batching: DynamicBatching
    model_warmup: list[ModelWarmup] = field(default_factory=list)
    platform: str = "pytorch_libtorch"

    def to_pbtxt(self) -> str:
        return "\n".join(_message(self, "")) + "\n"


def _message(message: Any, indent: str) -> Iterator[str]:
    for f in fields(message):
        if getattr(message, f.name) is None:
            continue
        yield from _field(f.name, getattr(message, f.name), indent)


def _field(name: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict):  # protobuf maps are repeated key/value messages
        for key, item in value.items():
            yield f"{indent}{name} {{"
            yield from _field("key", key, indent + "  ")
            yield from _field("value", item, indent + "  ")
            yield f"{indent}}}"
    elif is_dataclass(value):
        yield f"{indent}{name} {{"
        yield from _message(value, indent + "  ")
        yield f"{indent}}}"
    elif isinstance(value, list) and value and is_dataclass(value[0]):
        for item in value:
            yield from _field(name, item, indent)
    elif isinstance(value, list):
        yield f"{indent}{name}: [{', '.join(map(str, value))}]"
    elif isinstance(value, str) and not isinstance(value, Word):
        yield f"{indent}{name}: {json.dumps(value)}"
    else:
        yield f"{indent}{name}: {str(value).lower() if isinstance(value, bool) else value}"
