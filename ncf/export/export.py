"""Export of a run into a Triton model repository: everything that knows TorchScript.

Three models a recommender: `<name>` scores pairs, `<name>_topk` ranks the whole catalogue for a user, `<name>_query`
does so under conditions, for a new user's history, or for an item. All are scripted, not traced, so that they hold no
device: what was exported beside a GPU runs on a CPU, and the other way round.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ncf.data.item_columns import ItemColumn
from ncf.errors import InputError
from ncf.export.id_file import write_column, write_counts, write_id_file
from ncf.export.modules import TopK, TotalScorer
from ncf.export.query import Query
from ncf.export.repository import (
    check_request,
    free_version,
    part_names,
    place_config,
    place_warmup,
    publish,
    staging_folder,
)
from ncf.export.serving_settings import PARTS, PartSettings
from ncf.export.triton_config import (
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
from ncf.export.triton_config import Tensor as TensorConfig
from ncf.models.fold_in import fit_fold_in
from ncf.models.neural import SCORES_AT_ONCE
from ncf.training.config import DEFAULT_K
from ncf.training.run_directory import Run

TOLERANCE = 1e-5
# Rows of one Triton batch. Pairs are cheap; a top-K row scores the whole catalogue.
MAX_BATCH_SIZE, MAX_BATCH_SIZE_TOPK, MAX_BATCH_SIZE_QUERY = 16384, 256, 64
# Pairs wait a moment for company; a ranking costs more than the wait saves (docs/log.md), and what queues up while one
# runs is merged anyway.
QUEUE_DELAY_MICROSECONDS, QUEUE_DELAY_RANKING = 100, 0
# Queries that take every path through the module, so that no caller pays for a first time. Item 0 and 1 always exist.
QUERY_WARMUP = {
    "user": [(Query.USER, 0), (Query.EXCLUDE, 0), (Query.ALLOW, 1), (Query.WHERE, 0)],
    "history": [(Query.HISTORY, 0), (Query.HISTORY, 1), (0, 0), (0, 0)],
    "item": [(Query.SIMILAR, 0), (Query.EXCLUDE, 1), (0, 0), (0, 0)],
}


@dataclass(frozen=True)
class ExportedModel:
    """Where an export went: the three model directories and the version in each."""

    score: Path
    topk: Path
    query: Path
    version: int
    k: int


def export(
    run: Run,
    repository: Path,
    name: str,
    version: int | None = None,
    k: int = DEFAULT_K,
    device: str = "auto",
    columns: Sequence[ItemColumn] = (),
    serving: Mapping[str, PartSettings] | None = None,
) -> ExportedModel:
    """Write `<name>`, `<name>_topk` and `<name>_query` into a model repository, each version whole or not at all.

    The version defaults to the next free one; `columns` is what is known of the items, `serving` what differs
    from the default configuration, by part. Raises InputError for a name, version or k that cannot
    be, and for `serving` of a recommender that is there, which keeps its configuration.
    """
    check_request(name, version, k)
    names = part_names(name)
    for there in (repository / part / "config.pbtxt" for part in names):
        if serving and there.exists():
            raise InputError(
                f"{there} is there, and a new version keeps it: edit that file, or give --serving a new --name"
            )
    codes = torch.from_numpy(np.array([column.codes for column in columns]).reshape(len(columns), len(run.items)))
    catalogue = run.model.catalogue()
    fold_in = fit_fold_in(catalogue, run.known)
    modules = {
        names.topk: TopK(run.model.catalogue(), run.known, len(run.users), k),
        names.query: Query(catalogue, fold_in, run.known, len(run.users), k, codes.long()),
        names.score: TotalScorer(run.model, len(run.users), len(run.items)),
    }
    configs = {
        names.topk: topk_config(k, device),
        names.query: query_config(k, device),
        names.score: score_config(device),
    }
    for part, model_name in zip(PARTS, names, strict=True):
        configs[model_name] = (serving or {}).get(part, PartSettings()).apply(configs[model_name])
    with staging_folder(repository) as staging:
        version = free_version(repository, names, version)
        for model_name, module in modules.items():
            folder = staging / model_name / str(version)
            folder.mkdir(parents=True)
            # Written by Python: where PyTorch itself finds a disk full, it aborts the process.
            content = torch.jit.script(module.eval()).save_to_buffer()  # type: ignore[no-untyped-call]
            (folder / "model.pt").write_bytes(content)
            place_config(configs[model_name], staging / model_name, repository / model_name)
        score_file, topk_file, query_file = (staging / part / str(version) / "model.pt" for part in names)
        compare(run, score_file, topk_file, query_file, k)
        place_warmup(QUERY_WARMUP, staging / names.query, repository / names.query)
        folder = staging / name / str(version)
        write_id_file(folder / "users.ids", run.users)
        write_id_file(folder / "items.ids", run.items)
        write_counts(folder / "items.counts", run.known.items.bincount(minlength=len(run.items)).numpy())
        for number, column in enumerate(columns):
            write_column(folder, number, column)
        described = {
            "topk_model": names.topk,
            "query_model": names.query,
            "k": k,
            "columns": [{"name": column.name, "kind": column.kind} for column in columns],
        }
        (folder / "recommender.json").write_text(json.dumps(described) + "\n")
        # The scoring model goes last: its recommender.json is what makes the three a recommender.
        for model_name in modules:
            publish(staging / model_name, repository / model_name, version)
    return ExportedModel(repository / names.score, repository / names.topk, repository / names.query, version, k)


@torch.inference_mode()
def compare(run: Run, score_file: Path, topk_file: Path, query_file: Path, k: int, rows: int = 256) -> None:
    """Check what was saved against the eager model on fresh random inputs, indices outside the data among them.

    Raises RuntimeError if a score differs by more than 1e-5 of the largest (but of 1 at the least), an item that was
    seen comes back, or a query that only names a user is answered otherwise than by the top-K model.
    """
    num_users, num_items = len(run.users), len(run.items)
    user, item = torch.randint(num_users, (rows, 1)), torch.randint(num_items, (rows, 1))
    files = (score_file, topk_file, query_file)
    scorer, topk, query = (torch.jit.load(str(file)) for file in files)  # type: ignore[no-untyped-call]
    _require_close(scorer(user, item), run.model(user, item), "scores")
    outside = torch.tensor([[-1], [num_users], [2**63 - 1], [-(2**63)]])
    if not torch.isfinite(scorer(outside, outside)).all() or (topk(outside)[0] < 0).all(dim=1).any():
        raise RuntimeError("the exported model has no answer for an index outside the data")
    some = user[: max(1, min(rows, SCORES_AT_ONCE // num_items))]
    item_index, score = topk(some)
    expected = run.model(some, torch.arange(num_items).unsqueeze(0))
    for row, index in enumerate(some[:, 0].tolist()):
        expected[row, run.known.items[run.known.indptr[index] : run.known.indptr[index + 1]]] = float("-inf")
    best = expected.topk(min(k, num_items))[0]
    filled = torch.isfinite(best)
    ranked = best.shape[1]
    item_index, score, nothing = item_index[:, :ranked], score[:, :ranked], item_index[:, ranked:]
    if not torch.equal(filled, item_index >= 0) or (nothing != -1).any():
        raise RuntimeError("the exported top-K model does not leave out exactly the items that were seen")
    _require_close(score[filled], best[filled], "top-K scores")
    _require_close(expected.gather(1, item_index.clamp(min=0))[filled], best[filled], "scores of the top-K items")
    asked = torch.cat([some, outside])
    answered = query(torch.stack([torch.full_like(asked, Query.USER), asked], dim=2))
    _require_close(answered[1], topk(asked)[1], "query scores")


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
        queue_delay=QUEUE_DELAY_MICROSECONDS,
        device=device,
    )


def topk_config(k: int, device: str) -> ModelConfig:
    """The configuration of `<name>_topk`."""
    return _config(
        inputs={"user_index": TYPE_INT64},
        outputs=_ranked(k),
        max_batch_size=MAX_BATCH_SIZE_TOPK,
        preferred=[8, 32],
        queue_delay=QUEUE_DELAY_RANKING,
        device=device,
    )


def query_config(k: int, device: str) -> ModelConfig:
    """The configuration of `<name>_query`."""
    warmup = [
        ModelWarmup(name, 1, {"query": WarmupInput(TYPE_INT64, [len(rows), 2], None, name)}, count=2)
        for name, rows in QUERY_WARMUP.items()
    ]
    return ModelConfig(
        max_batch_size=MAX_BATCH_SIZE_QUERY,
        input=[TensorConfig("query", TYPE_INT64, [-1, 2])],
        output=_ranked(k),
        instance_group=[InstanceGroup(INSTANCE_KINDS[device])],
        dynamic_batching=DynamicBatching([8], QUEUE_DELAY_RANKING),
        model_warmup=warmup,
    )


def _ranked(k: int) -> list[TensorConfig]:
    return [TensorConfig("item_index", TYPE_INT64, [k]), TensorConfig("score", TYPE_FP32, [k])]


def _config(
    inputs: dict[str, Word],
    outputs: list[TensorConfig],
    max_batch_size: int,
    preferred: list[int],
    queue_delay: int,
    device: str,
) -> ModelConfig:
    # One instance and these delays: for scoring no others were better by more than rounds differ. Two instances of the
    # ranking model answer 1.75 times the requests/s on two cores, for 165 MB more on a CPU: --serving is for that
    # (benchmarks/report, search).
    # TorchScript specialises on its second call of a kind: two warm-up calls a size, so that no caller pays for it.
    warm = {name: WarmupInput(data_type, [1]) for name, data_type in inputs.items()}
    return ModelConfig(
        max_batch_size=max_batch_size,
        input=[TensorConfig(name, data_type, [1]) for name, data_type in inputs.items()],
        output=outputs,
        instance_group=[InstanceGroup(INSTANCE_KINDS[device])],
        dynamic_batching=DynamicBatching(preferred, queue_delay),
        model_warmup=[ModelWarmup(f"rows_{size}", size, warm, count=2) for size in (1, preferred[0])],
    )
