from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ncf.export.triton_config import (
    TYPE_FP32,
    TYPE_INT64,
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    ModelWarmup,
    Tensor,
    WarmupInput,
)


def test_every_field_round_trips_through_tritons_protobuf() -> None:
    config = ModelConfig(
        max_batch_size=32,
        input=[Tensor('odd "name" \\ é', TYPE_INT64, [1]), Tensor("b", TYPE_FP32, [3, -1])],
        output=[Tensor("c", TYPE_FP32, [2])],
        instance_group=[InstanceGroup("KIND_GPU", count=2)],
        dynamic_batching=DynamicBatching([4, 8], 250),
        model_warmup=[ModelWarmup("w", 4, {"b": WarmupInput(TYPE_FP32, [3, 5], zero_data=True)}, count=3)],
    )
    parsed = text_format.Parse(config.to_pbtxt(), model_config_pb2.ModelConfig())
    assert parsed.platform == "pytorch_libtorch"
    assert parsed.max_batch_size == 32
    assert [(t.name, t.data_type, list(t.dims)) for t in parsed.input] == [
        ('odd "name" \\ é', model_config_pb2.TYPE_INT64, [1]),
        ("b", model_config_pb2.TYPE_FP32, [3, -1]),
    ]
    assert [(t.name, list(t.dims)) for t in parsed.output] == [("c", [2])]
    assert [(g.kind, g.count) for g in parsed.instance_group] == [(model_config_pb2.ModelInstanceGroup.KIND_GPU, 2)]
    assert list(parsed.dynamic_batching.preferred_batch_size) == [4, 8]
    assert parsed.dynamic_batching.max_queue_delay_microseconds == 250
    warmup = parsed.model_warmup[0]
    assert (warmup.name, warmup.batch_size, warmup.count) == ("w", 4, 3)
    assert list(warmup.inputs["b"].dims) == [3, 5]
    assert warmup.inputs["b"].zero_data
