"""Compare the exported modules with the trained model before they are published."""

from pathlib import Path

import torch
from torch import Tensor

from ncf.export.query import Query
from ncf.models.neural import SCORES_AT_ONCE
from ncf.training.run_directory import Run

TOLERANCE = 1e-5


@torch.inference_mode()
def compare(run: Run, score_file: Path, topk_file: Path, query_file: Path, k: int, rows: int = 256) -> None:
    """Compare the saved modules with the eager model on random inputs, with indices outside the data among them.

    Raises RuntimeError if a score differs by more than the tolerance (1e-5, or 1e-5 of the largest score if that is
    above 1), if a seen item is recommended, or if a query with only a user has other scores than the top-K model.
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
    # Rounding errors of float32 sums grow with the scores, so large scores have a larger tolerance.
    tolerance = TOLERANCE * max(1.0, expected.abs().max().item() if len(expected) else 0.0)
    if not torch.allclose(actual, expected, rtol=0.0, atol=tolerance):
        worst = (actual - expected).abs().max().item()
        raise RuntimeError(
            f"exported and eager {what} differ by {worst:.2g} (tolerance {tolerance:.2g}); nothing written"
        )
