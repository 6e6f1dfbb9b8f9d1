"""Export of a run into a Triton model repository: everything that knows TorchScript.

Two models a recommender: `<name>` scores pairs, `<name>_topk` ranks the whole catalogue for a user. Both are scripted,
not traced, so that they hold no device: what was exported beside a GPU runs on a CPU, and the other way round.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ncf.checkpoint import Run
from ncf.config import DEFAULT_K
from ncf.exported_modules import TopK, TotalScorer
from ncf.id_file import write_id_file
from ncf.models import SCORES_AT_ONCE
from ncf.publish import check_request, free_version, place_config, publish, staging_folder
from ncf.triton_config import (
    INSTANCE_KINDS,
    TYPE_FP32,
    TYPE_INT64,
    DynamicBatching,
    InstanceGroup,
    ModelConfig,
    ModelWarmup,
    WarmupInput,
    Word,
)
from ncf.triton_config import Tensor as TensorConfig

TOLERANCE = 1e-5
# Rows of one Triton batch. Pairs are cheap; a top-K row scores the whole catalogue.
MAX_BATCH_SIZE, MAX_BATCH_SIZE_TOPK = 16384, 256
QUEUE_DELAY_MICROSECONDS = 100


@dataclass(frozen=True)
class ExportedModel:
    """Where an export went: the two model directories and the version in both."""

    score: Path
    topk: Path
    version: int
    k: int


def export(
    run: Run, repository: Path, name: str, version: int | None = None, k: int = DEFAULT_K, device: str = "auto"
) -> ExportedModel:
    """Write `<name>` and `<name>_topk` into a model repository, each version whole or not at all.

    The version defaults to the next free one. Raises InputError for a name, version or k that cannot be.
    """
    topk_name = f"{name}_topk"
    check_request(name, version, k)
    k = min(k, len(run.items))
    scorer = TotalScorer(run.model, len(run.users), len(run.items)).eval()
    topk = TopK(run.model.catalogue(), run.known, len(run.users), k).eval()
    with staging_folder(repository) as staging:
        version = free_version(repository, name, topk_name, version)
        for model_name, module, config in (
            (topk_name, topk, topk_config(k, device)),
            (name, scorer, score_config(device)),
        ):
            folder = staging / model_name / str(version)
            folder.mkdir(parents=True)
            torch.jit.save(torch.jit.script(module), str(folder / "model.pt"))
            place_config(config, staging / model_name, repository / model_name)
        compare(run, staging / name / str(version) / "model.pt", staging / topk_name / str(version) / "model.pt", k)
        folder = staging / name / str(version)
        write_id_file(folder / "users.ids", run.users)
        write_id_file(folder / "items.ids", run.items)
        (folder / "recommender.json").write_text(json.dumps({"topk_model": topk_name, "k": k}) + "\n")
        # The scoring model goes last: its recommender.json is what makes the pair a recommender.
        for model_name in (topk_name, name):
            publish(staging / model_name, repository / model_name, version)
    return ExportedModel(repository / name, repository / topk_name, version, k)


@torch.inference_mode()
def compare(run: Run, score_file: Path, topk_file: Path, k: int, rows: int = 256) -> None:
    """Check what was saved against the eager model on fresh random inputs, indices outside the data among them.

    Raises RuntimeError if a score differs by more than 1e-5 of the largest (but of 1 at the least), or an item that was
    seen comes back.
    """
    num_users, num_items = len(run.users), len(run.items)
    user, item = torch.randint(num_users, (rows, 1)), torch.randint(num_items, (rows, 1))
    scorer, topk = (torch.jit.load(str(file)) for file in (score_file, topk_file))  # type: ignore[no-untyped-call]
    _require_close(scorer(user, item), run.model(user, item), "scores")
    outside = torch.tensor([[-1], [num_users], [2**63 - 1], [-(2**63)]])
    if not torch.isfinite(scorer(outside, outside)).all() or (topk(outside)[0] < 0).all(dim=1).any():
        raise RuntimeError("the exported model has no answer for an index outside the data")
    some = user[: max(1, min(rows, SCORES_AT_ONCE // num_items))]
    item_index, score = topk(some)
    expected = run.model(some, torch.arange(num_items).unsqueeze(0))
    for row, index in enumerate(some[:, 0].tolist()):
        expected[row, run.known.items[run.known.indptr[index] : run.known.indptr[index + 1]]] = float("-inf")
    best = expected.topk(k)[0]
    filled = torch.isfinite(best)
    if not torch.equal(filled, item_index >= 0):
        raise RuntimeError("the exported top-K model does not leave out exactly the items that were seen")
    _require_close(score[filled], best[filled], "top-K scores")
    _require_close(expected.gather(1, item_index.clamp(min=0))[filled], best[filled], "scores of the top-K items")


def _require_close(actual: Tensor, expected: Tensor, what: str) -> None:
    # Float32 sums of other order differ in proportion to what is summed, so large scores have a larger tolerance.
    tolerance = TOLERANCE * max(1.0, expected.abs().max().item() if len(expected) else 0.0)
    if not torch.allclose(actual, expected, rtol=0.0, atol=tolerance):
        worst = (actual - expected).abs().max().item()
        raise RuntimeError(
            f"exported and eager {what} differ by {worst:.2g} (tolerance {tolerance:.2g}); nothing written"
        )


def score_config(device: str) -> ModelConfig:
    """The configuration of `<name>`."""
    return _config(
        inputs={"user_index": TYPE_INT64, "item_index": TYPE_INT64},
        outputs=[TensorConfig("score", TYPE_FP32, [1])],
        max_batch_size=MAX_BATCH_SIZE,
        preferred=[64, 1024],
        device=device,
    )


def topk_config(k: int, device: str) -> ModelConfig:
    """The configuration of `<name>_topk`."""
    return _config(
        inputs={"user_index": TYPE_INT64},
        outputs=[TensorConfig("item_index", TYPE_INT64, [k]), TensorConfig("score", TYPE_FP32, [k])],
        max_batch_size=MAX_BATCH_SIZE_TOPK,
        preferred=[8, 32],
        device=device,
    )


def _config(
    inputs: dict[str, Word], outputs: list[TensorConfig], max_batch_size: int, preferred: list[int], device: str
) -> ModelConfig:
    # TorchScript specialises on its second call of a kind: two warm-up calls a size, so that no caller pays for it.
    warm = {name: WarmupInput(data_type, [1]) for name, data_type in inputs.items()}
    return ModelConfig(
        max_batch_size=max_batch_size,
        input=[TensorConfig(name, data_type, [1]) for name, data_type in inputs.items()],
        output=outputs,
        instance_group=[InstanceGroup(INSTANCE_KINDS[device])],
        dynamic_batching=DynamicBatching(preferred, QUEUE_DELAY_MICROSECONDS),
        model_warmup=[ModelWarmup(f"rows_{size}", size, warm, count=2) for size in (1, preferred[0])],
    )
