"""Compare the exported modules with the trained model before they are published."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ncf.export.query import Query
from ncf.models.neural import SCORES_AT_ONCE
from ncf.training.run_directory import Run

TOLERANCE = 1e-5
FLOATS_AT_ONCE = 2**22  # of scores, and of a layer of the eager model for users and items: 16 MB
NO_ANSWER = "the exported model has no answer for an index outside the data"


@torch.inference_mode()
def compare(run: Run, files: Mapping[str, Path], k: int, rows: int = 256) -> None:
    """Compare the saved modules, `files` by part, with the eager model on random inputs, and on indices outside the
    data.

    Raises RuntimeError if a score differs by more than the tolerance (1e-5, or 1e-5 of the largest score if that is
    above 1), if a seen item is recommended, or if the ways to rank for a user differ: alone, by a query with a
    condition that changes nothing, and by the top-K model.
    """
    num_users, num_items = len(run.users), len(run.items)
    user, item = torch.randint(num_users, (rows, 1)), torch.randint(num_items, (rows, 1))
    modules = {part: torch.jit.load(str(file)) for part, file in files.items()}  # type: ignore[no-untyped-call]
    scorer = modules["score"]
    _require_close(scorer(user, item), run.model(user, item), "scores")
    outside = torch.tensor([[-1], [num_users], [2**63 - 1], [-(2**63)]])
    if not torch.isfinite(scorer(outside, outside)).all():
        raise RuntimeError(NO_ANSWER)
    some = user[: max(1, min(rows, SCORES_AT_ONCE // num_items))]
    for part in torch.split(some, max(1, FLOATS_AT_ONCE // num_items - len(outside))):
        item_index, score = _ranked(modules, torch.cat([part, outside]))
        if (item_index[len(part) :] < 0).all(dim=1).any():
            raise RuntimeError(NO_ANSWER)
        _compare_ranking(run, part, item_index[: len(part)], score[: len(part)], k)


def _ranked(modules: Mapping[str, Any], user: Tensor) -> tuple[Tensor, Tensor]:
    """The ranking of users [B, 1], which all modules must agree on: -> item_index and score [B, K]."""
    query = modules["query"]
    lone_users = torch.stack([torch.full_like(user, Query.USER), user], dim=2)
    item_index, score = query(lone_users)
    excluded = torch.tensor([[Query.EXCLUDE, -1]]).expand(len(user), 1, 2)
    _require_close(query(torch.cat([lone_users, excluded], dim=1))[1], score, "query scores")
    if "topk" in modules and not all(map(torch.equal, modules["topk"](user), (item_index, score))):
        raise RuntimeError("the exported top-K model answers otherwise than the query model; nothing written")
    return item_index, score


def _compare_ranking(run: Run, user: Tensor, item_index: Tensor, score: Tensor, k: int) -> None:
    """Compare a ranking of users [B, 1] with the eager scores of all items."""
    expected = _eager_scores(run, user)
    for row, index in enumerate(user[:, 0].tolist()):
        expected[row, run.known.items[run.known.indptr[index] : run.known.indptr[index + 1]]] = float("-inf")
    best = expected.topk(min(k, len(run.items)))[0]
    filled = torch.isfinite(best)
    ranked = best.shape[1]
    item_index, score, nothing = item_index[:, :ranked], score[:, :ranked], item_index[:, ranked:]
    if not torch.equal(filled, item_index >= 0) or (nothing != -1).any():
        raise RuntimeError("the exported query model does not leave out exactly the items that were seen")
    _require_close(score[filled], best[filled], "query scores")
    _require_close(expected.gather(1, item_index.clamp(min=0))[filled], best[filled], "scores of the ranked items")


def _eager_scores(run: Run, user: Tensor) -> Tensor:
    """The scores of users [B, 1] for all items, [B, num_items]; the layers of a few items are in memory at a time."""
    config = run.config
    widest = config.result_factors * (1 if config.model == "gmf" else 2 ** (config.num_layers - 1))
    items = torch.split(torch.arange(len(run.items)), max(1, int(FLOATS_AT_ONCE // (widest * len(user)))))
    return torch.cat([run.model(user, part.unsqueeze(0)) for part in items], dim=1)


def _require_close(actual: Tensor, expected: Tensor, what: str) -> None:
    # Rounding errors of float32 sums grow with the scores, so large scores have a larger tolerance.
    tolerance = TOLERANCE * max(1.0, expected.abs().max().item() if len(expected) else 0.0)
    if not torch.allclose(actual, expected, rtol=0.0, atol=tolerance):
        worst = (actual - expected).abs().max().item()
        raise RuntimeError(
            f"exported and eager {what} differ by {worst:.2g} (tolerance {tolerance:.2g}); nothing written"
        )
