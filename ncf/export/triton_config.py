"""`config.pbtxt` as dataclasses with the field names of Triton's ModelConfig message.

The message is in https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto; a field that
is None is not written. There is no `name` field: the name of the directory is the name of the model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

TYPE_INT64, TYPE_FP32 = "TYPE_INT64", "TYPE_FP32"

INSTANCE_KINDS = {"cpu": "KIND_CPU", "gpu": "KIND_GPU", "auto": "KIND_AUTO"}


@dataclass(frozen=True)
class Tensor:
    """An input or output; `dims` without the batch dimension."""

    name: str
    data_type: str
    dims: list[int]


@dataclass(frozen=True)
class InstanceGroup:
    """Without a count, `serve` runs as many instances as suit the machine, and any other Triton one."""

    kind: str
    count: int | None = None


@dataclass(frozen=True)
class DynamicBatching:
    """By default no request waits for others: those that come while a batch runs are the next batch (docs/log.md)."""

    preferred_batch_size: list[int]
    max_queue_delay_microseconds: int = 0


@dataclass(frozen=True)
class WarmupInput:
    """Either zeros, or the bytes of a file in the folder `warmup` of the model."""

    data_type: str
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
        from google.protobuf import json_format, text_format
        from tritonclient.grpc import model_config_pb2  # imported here, because it also imports grpc

        values: dict[str, Any] = asdict(self, dict_factory=_given)
        message = json_format.ParseDict(values, model_config_pb2.ModelConfig())
        return str(text_format.MessageToString(message, as_utf8=True))


def _given(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if value is not None}
