"""Export of a run into a Triton model repository: everything that knows TorchScript.

Two models a recommender: `<name>` scores pairs, `<name>_topk` ranks the whole catalogue for a user. Both are scripted,
not traced, hold no device, and are total: any int64 index gives a defined answer, because Triton merges the rows of
many callers into one forward and one caller's bad index must not fail the others.
"""

import copy
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ncf.checkpoint import Run
from ncf.errors import InputError
from ncf.id_file import write_id_file
from ncf.models import NCF
from ncf.negatives import SeenItems
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

DEFAULT_K = 100
TOLERANCE = 1e-5
# Rows of one Triton batch. Pairs are cheap; a top-K row scores the whole catalogue.
MAX_BATCH_SIZE, MAX_BATCH_SIZE_TOPK = 16384, 256
QUEUE_DELAY_MICROSECONDS = 100
# Scores of all items held at once in the top-K module: 64 MB of float32, whatever the catalogue.
SCORES_AT_ONCE = 2**24


class TotalScorer(nn.Module):
    """`user_index`, `item_index` int64 [B, 1] -> score [B, 1]; an index outside the data has the mean embedding."""

    def __init__(self, model: NCF, num_users: int, num_items: int) -> None:
        super().__init__()
        self.model = _with_unknown_row(model)
        self.num_users = num_users
        self.num_items = num_items

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        user = torch.where((user_index >= 0) & (user_index < self.num_users), user_index, self.num_users)
        item = torch.where((item_index >= 0) & (item_index < self.num_items), item_index, self.num_items)
        score: Tensor = self.model(user, item)
        return score


class TopK(nn.Module):
    """`user_index` int64 [B, 1] -> item_index int64 [B, K], score [B, K], best first.

    Items the user has seen are left out; a user outside the data gets the most popular items, scored by their number
    of interactions. Where fewer than K items remain, item_index is -1 and score the lowest float32.
    """

    popularity: Tensor
    seen_indptr: Tensor
    seen_items: Tensor

    def __init__(self, catalogue: nn.Module, seen: SeenItems, num_users: int, k: int) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.register_buffer("popularity", torch.bincount(seen.items, minlength=seen.num_items).float())
        self.register_buffer("seen_indptr", seen.indptr)
        self.register_buffer("seen_items", seen.items)
        self.num_users = num_users
        self.k = k
        self.lowest = torch.finfo(torch.float32).min
        self.users_at_once = max(1, SCORES_AT_ONCE // seen.num_items)

    def forward(self, user_index: Tensor) -> tuple[Tensor, Tensor]:
        user = user_index.reshape(-1)
        item_index = torch.empty((user.size(0), self.k), dtype=torch.int64, device=user.device)
        score = torch.empty((user.size(0), self.k), dtype=torch.float32, device=user.device)
        for start in range(0, user.size(0), self.users_at_once):
            part_item, part_score = self.rank(user[start : start + self.users_at_once])
            item_index[start : start + self.users_at_once] = part_item
            score[start : start + self.users_at_once] = part_score
        return item_index, score

    def rank(self, user: Tensor) -> tuple[Tensor, Tensor]:
        known = (user >= 0) & (user < self.num_users)
        row = torch.where(known, user, 0)
        scores = torch.where(known.unsqueeze(1), self.catalogue(row), self.popularity)
        first = self.seen_indptr[row]
        count = (self.seen_indptr[row + 1] - first) * known.long()
        owner = torch.repeat_interleave(count)
        offset = torch.arange(owner.size(0), device=user.device) - (count.cumsum(0) - count)[owner]
        scores[owner, self.seen_items[first[owner] + offset]] = self.lowest
        score, item_index = torch.topk(scores, self.k)
        return torch.where(score == self.lowest, -1, item_index), score


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
    version = _check(repository, name, topk_name, version, k)
    k = min(k, len(run.items))
    scorer = TotalScorer(run.model, len(run.users), len(run.items)).eval()
    topk = TopK(run.model.catalogue(), run.known, len(run.users), k).eval()
    with _staging(repository) as staging:
        for model_name, module, config in (
            (topk_name, topk, topk_config(k, device)),
            (name, scorer, score_config(device)),
        ):
            folder = staging / model_name / str(version)
            folder.mkdir(parents=True)
            torch.jit.save(torch.jit.script(module), str(folder / "model.pt"))
            _place_config(config, staging / model_name, repository / model_name)
        compare(run, staging / name / str(version) / "model.pt", staging / topk_name / str(version) / "model.pt", k)
        folder = staging / name / str(version)
        write_id_file(folder / "users.ids", run.users)
        write_id_file(folder / "items.ids", run.items)
        (folder / "recommender.json").write_text(json.dumps({"topk_model": topk_name, "k": k}) + "\n")
        # The scoring model goes last: its recommender.json is what makes the pair a recommender.
        for model_name in (topk_name, name):
            _publish(staging / model_name, repository / model_name, version)
    return ExportedModel(repository / name, repository / topk_name, version, k)


@torch.inference_mode()
def compare(run: Run, score_file: Path, topk_file: Path, k: int, rows: int = 256) -> None:
    """Check what was saved against the eager model on fresh random inputs, indices outside the data among them.

    Raises RuntimeError if a score differs by more than 1e-5 (relative beyond 1), or an item that was seen comes back.
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
    if not torch.allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE):
        worst = (actual - expected).abs().max().item()
        raise RuntimeError(f"exported and eager {what} differ by {worst:.2g} (tolerance {TOLERANCE}); nothing written")


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


def _with_unknown_row(model: NCF) -> NCF:
    """A copy whose embedding tables have one more row, the mean of the others."""
    model = copy.deepcopy(model)
    for branch in model.branches:
        for table in ("user_embedding", "item_embedding"):
            weight = getattr(branch, table).weight.detach()
            longer = torch.cat([weight, weight.mean(0, keepdim=True)])
            setattr(branch, table, nn.Embedding(longer.shape[0], longer.shape[1], _weight=longer))
    return model


def _check(repository: Path, name: str, topk_name: str, version: int | None, k: int) -> int:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
        raise InputError(
            f"'{name}' is no model name; use letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    if name.endswith("_topk"):
        raise InputError(f"'{name}' ends in _topk, which is kept for the second model of a recommender")
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1")
    taken = {
        int(folder.name)
        for model_name in (name, topk_name)
        for folder in (repository / model_name).glob("*")
        if folder.name.isdigit()
    }
    if version is None:
        return max(taken, default=0) + 1
    if version < 1:
        raise InputError(f"version is {version}; it must be at least 1")
    if version in taken:
        raise InputError(f"{repository / name} has a version {version} already; the next free is {max(taken) + 1}")
    return version


@contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    """A folder on the repository's own file system; serve and Triton ignore it, and a later export clears what a
    killed one left."""
    try:
        repository.mkdir(parents=True, exist_ok=True)
        for left in repository.glob(".export-*"):
            if not Path(f"/proc/{left.name.split('-')[1]}").exists():
                shutil.rmtree(left, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=f".export-{os.getpid()}-", dir=repository))
    except OSError as error:
        raise InputError(f"cannot write into {repository}: {error.strerror}; choose another --repository") from error
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _place_config(config: ModelConfig, staged: Path, existing: Path) -> None:
    """Stage config.pbtxt for a new model; of a model that is there keep the file, which its owner may have tuned."""
    text = config.to_pbtxt()
    if not (existing / "config.pbtxt").exists():
        (staged / "config.pbtxt").write_text(text)
        return
    there, new = _parse(existing / "config.pbtxt"), _parse(text)
    if list(there.input) != list(new.input) or list(there.output) != list(new.output):
        raise InputError(
            f"{existing / 'config.pbtxt'} describes other inputs or outputs than this export (another --k, or a "
            "catalogue smaller than k); export with the same k or under a new --name"
        )


def _parse(config: Path | str) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2  # slow to import, and needed for a second version only

    text = config.read_text() if isinstance(config, Path) else config
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise InputError(f"{config} is no config.pbtxt: {error}; correct it or export under a new --name") from error


def _publish(staged: Path, target: Path, version: int) -> None:
    """Make a staged model visible by one rename: the whole directory, or a version in one that is there."""
    if target.exists():
        (staged / str(version)).rename(target / str(version))
        if (staged / "config.pbtxt").exists():
            (staged / "config.pbtxt").rename(target / "config.pbtxt")
    else:
        staged.chmod(0o755)
        staged.rename(target)
