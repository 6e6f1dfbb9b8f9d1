"""The Triton configuration of each exported model."""

from ncf.export.query import Query
from ncf.export.triton_config import (
    INSTANCE_KINDS,
    TYPE_FP32,
    TYPE_INT64,
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    ModelWarmup,
    WarmupInput,
)
from ncf.export.triton_config import Tensor as TensorConfig

# Most rows of one Triton batch. Pairs are cheap; a row of the query and the top-K model scores the whole catalogue.
MAX_BATCH_SIZE, MAX_BATCH_SIZE_TOPK, MAX_BATCH_SIZE_QUERY = 16384, 256, 64
# Warm-up queries that take every path through the module, so that no request pays for a first time. Items 0 and 1
# always exist.
QUERY_WARMUP = {
    "lone_user": [(Query.USER, 0)],
    "user": [(Query.USER, 0), (Query.EXCLUDE, 0), (Query.ALLOW, 1), (Query.WHERE, 0)],
    "history": [(Query.HISTORY, 0), (Query.HISTORY, 1), (0, 0), (0, 0)],
    "item": [(Query.SIMILAR, 0), (Query.EXCLUDE, 1), (0, 0), (0, 0)],
}


def score_config(device: str) -> ModelConfig:
    """The configuration of `<name>`."""
    return _config(
        inputs={"user_index": TYPE_INT64, "item_index": TYPE_INT64},
        outputs=[TensorConfig("score", TYPE_FP32, [1])],
        max_batch_size=MAX_BATCH_SIZE,
        preferred=[64, 1024],
        # For scoring, more instances were not faster by more than the rounds differ (docs/log.md).
        instances=InstanceGroup(INSTANCE_KINDS[device], count=1),
    )


def topk_config(k: int, device: str) -> ModelConfig:
    """The configuration of `<name>_topk`."""
    return _config(
        inputs={"user_index": TYPE_INT64},
        outputs=_ranked(k),
        max_batch_size=MAX_BATCH_SIZE_TOPK,
        preferred=[8, 32],
        instances=InstanceGroup(INSTANCE_KINDS[device]),
    )


def query_config(k: int, device: str) -> ModelConfig:
    """The configuration of `<name>_query`."""
    inputs = {
        name: {"query": WarmupInput(TYPE_INT64, [len(rows), 2], None, name)} for name, rows in QUERY_WARMUP.items()
    }
    preferred = 8  # also the size of a second warm-up of lone users, by far the most frequent queries
    warmup = [ModelWarmup(name, 1, given, count=2) for name, given in inputs.items()]
    warmup.append(ModelWarmup(f"lone_user_{preferred}", preferred, inputs["lone_user"], count=2))
    return ModelConfig(
        max_batch_size=MAX_BATCH_SIZE_QUERY,
        input=[TensorConfig("query", TYPE_INT64, [-1, 2])],
        output=_ranked(k),
        instance_group=[InstanceGroup(INSTANCE_KINDS[device])],
        dynamic_batching=DynamicBatching([preferred]),
        model_warmup=warmup,
    )


def _ranked(k: int) -> list[TensorConfig]:
    return [TensorConfig("item_index", TYPE_INT64, [k]), TensorConfig("score", TYPE_FP32, [k])]


def _config(
    inputs: dict[str, str],
    outputs: list[TensorConfig],
    max_batch_size: int,
    preferred: list[int],
    instances: InstanceGroup,
) -> ModelConfig:
    # TorchScript optimises a module in its second call with a batch size, so the warm-up calls it twice for each size.
    warm = {name: WarmupInput(data_type, [1]) for name, data_type in inputs.items()}
    return ModelConfig(
        max_batch_size=max_batch_size,
        input=[TensorConfig(name, data_type, [1]) for name, data_type in inputs.items()],
        output=outputs,
        instance_group=[instances],
        dynamic_batching=DynamicBatching(preferred),
        model_warmup=[ModelWarmup(f"rows_{size}", size, warm, count=2) for size in (1, preferred[0])],
    )
