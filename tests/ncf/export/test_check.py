from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ncf.data.interactions import IdIndex
from ncf.export.check import FLOATS_AT_ONCE, compare
from ncf.export.export import export
from ncf.models.neural import build_model
from ncf.models.seen import SeenItems
from ncf.training.config import TrainConfig
from ncf.training.run_directory import Run


class Largest(TorchDispatchMode):
    """Context manager: `floats` is the size of the largest tensor that was computed in it."""

    floats = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else [found]:
            if isinstance(each, torch.Tensor):
                self.floats = max(self.floats, each.numel())
        return found


def made_run(path: Path, model: str, num_items: int) -> Run:
    torch.manual_seed(0)
    users, items = (IdIndex(pl.Series(range(size))) for size in (300, num_items))
    known = SeenItems.of(torch.arange(300), torch.arange(300) % num_items, 300, num_items)
    config = TrainConfig(model=model, num_factors=8)
    return Run(path, config, users, items, known, build_model(model, 300, num_items, 8).eval(), "")


def exported_files(run: Run, folder: Path) -> dict[str, Path]:
    exported = export(run, folder / "repository", "m", k=10)
    return {"score": exported.score / "1" / "model.pt", "query": exported.query / "1" / "model.pt"}


@pytest.mark.parametrize("model", ["gmf", "mlp", "neumf"])
@pytest.mark.parametrize("num_items", [50, 9_000])
def test_the_check_needs_little_memory_and_compares_every_score_of_256_users(
    tmp_path: Path, model: str, num_items: int
) -> None:
    run = made_run(tmp_path, model, num_items)
    files = exported_files(run, tmp_path)
    scores: list[int] = []
    run.model.register_forward_hook(lambda module, arguments, score: scores.append(score.numel()))
    with Largest() as largest:
        compare(run, files, 10)
    assert sum(scores) == 256 + 256 * num_items  # pairs, and users with the catalogue
    assert 0 < largest.floats <= FLOATS_AT_ONCE


def test_a_catalogue_of_any_size_is_compared_for_a_user_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With bounds as small as if the catalogue were large."""
    run = made_run(tmp_path, "mlp", 50)
    files = exported_files(run, tmp_path)
    monkeypatch.setattr("ncf.export.check.FLOATS_AT_ONCE", 7)
    monkeypatch.setattr("ncf.export.check.SCORES_AT_ONCE", 7)
    scores: list[int] = []
    run.model.register_forward_hook(lambda module, arguments, score: scores.append(score.numel()))
    compare(run, files, 10)
    assert scores == [256] + [1] * 50
