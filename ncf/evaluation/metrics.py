"""Metrics of the ranks of held-out items, one value for each; docs/metrics.md has every formula and its source."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Values = dict[str, Tensor]  # by metric: a value for each held-out item, or for each user, float64
CURVE_KS = (1, 5, 10, 20, 50, 100)
NUM_GROUPS = 5


def rank_of_positive(positive: Tensor, others: Tensor, excluded: Tensor) -> Tensor:
    """Rank (0 is best) of scores `positive` [T] among the scores `others` [T, C] that are not `excluded` (bool [T, C]).

    A tie counts against the positive, and so does a score that is not a number on either side.
    """
    ahead = ~(others < positive.unsqueeze(1)) & ~excluded
    return ahead.sum(dim=1)


def hits(rank: Tensor, k: int) -> Tensor:
    """1 if a rank [T] is below k, else 0: float64 [T]."""
    return (rank < k).double()


def gains(rank: Tensor, k: int) -> Tensor:
    """1/log2(rank + 2) if a rank [T] is below k, else 0: float64 [T] (one relevant item, so the ideal gain is 1)."""
    return torch.where(rank < k, 1.0 / torch.log2(rank.double() + 2.0), 0.0)


def share_behind(rank: Tensor, rivals: Tensor) -> Tensor:
    """The AUC of one held-out item: the share of its `rivals` (numbers, [T]) that ranks [T] leave behind, float64 [T].

    Without a rival it is 1, like the other metrics.
    """
    return 1.0 - rank.double() / rivals.clamp(min=1).double()


def row_values(rank: Tensor) -> Values:
    """HR@10, NDCG@10, MRR and HR@20 of each of ranks [T]."""
    return {
        "HR@10": hits(rank, 10),
        "NDCG@10": gains(rank, 10),
        "MRR": 1.0 / (rank.double() + 1.0),
        "HR@20": hits(rank, 20),
    }


def means(values: Values) -> dict[str, float]:
    """The mean of each metric; empty if there are no values."""
    return {name: value.mean().item() for name, value in values.items() if len(value)}


def curves(rank: Tensor) -> dict[str, dict[str, float]]:
    """`{"HR" | "NDCG": {K: value}}` of ranks [T] at every K of `CURVE_KS`."""
    return {
        name: {str(k): metric(rank, k).mean().item() for k in CURVE_KS}
        for name, metric in (("HR", hits), ("NDCG", gains))
    }


def by_group(value: Tensor, figures: Callable[[Tensor], dict[str, float]]) -> list[dict[str, float]]:
    """`figures(inside)` of at most five groups of about equal size by an integer `value` [T]; `inside` is bool [T].

    Each group also has its smallest and largest value. Equal values are in the same group.
    """
    if len(value) == 0:
        return []
    ordered = value.sort().values
    cuts = torch.unique(ordered[[len(ordered) * part // NUM_GROUPS for part in range(1, NUM_GROUPS)]])
    group = torch.bucketize(value, cuts, right=True)
    found = []
    for number in torch.unique(group).tolist():
        inside = group == number
        bounds = {"from": int(value[inside].min()), "to": int(value[inside].max())}
        found.append({**bounds, **figures(inside)})
    return found
