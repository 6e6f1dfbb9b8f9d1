"""Metrics of the ranks of held-out items, and tests whether one ranking of the same items is better than another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import erfc, sqrt

import torch
from torch import Tensor

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


def hit_rate_at_k(rank: Tensor, k: int) -> float:
    """Share of ranks [T] below k."""
    return hits(rank, k).mean().item()


def ndcg_at_k(rank: Tensor, k: int) -> float:
    """Mean gain of ranks [T] at k."""
    return gains(rank, k).mean().item()


def mean_reciprocal_rank(rank: Tensor) -> float:
    """Mean of 1/(rank + 1) over ranks [T]."""
    return (1.0 / (rank.double() + 1.0)).mean().item()


def summarise(rank: Tensor) -> dict[str, float]:
    """The four metrics of every report."""
    return {
        "HR@10": hit_rate_at_k(rank, 10),
        "NDCG@10": ndcg_at_k(rank, 10),
        "MRR": mean_reciprocal_rank(rank),
        "HR@20": hit_rate_at_k(rank, 20),
    }


def curves(rank: Tensor) -> dict[str, dict[str, float]]:
    """`{"HR" | "NDCG": {K: value}}` of ranks [T] at every K of `CURVE_KS`."""
    return {
        name: {str(k): metric(rank, k) for k in CURVE_KS}
        for name, metric in (("HR", hit_rate_at_k), ("NDCG", ndcg_at_k))
    }


def by_group(rank: Tensor, value: Tensor) -> list[dict[str, float]]:
    """HR@10 and NDCG@10 of ranks [T] in at most five groups of about equal size by an integer `value` [T].

    Each group has its smallest and largest value and its number of ranks; equal values are in the same group.
    """
    if len(rank) == 0:
        return []
    ordered = value.sort().values
    cuts = torch.unique(ordered[[len(ordered) * part // NUM_GROUPS for part in range(1, NUM_GROUPS)]])
    group = torch.bucketize(value, cuts, right=True)
    found = []
    for number in torch.unique(group).tolist():
        inside = group == number
        found.append(
            {
                "from": int(value[inside].min()),
                "to": int(value[inside].max()),
                "held_out": int(inside.sum()),
                "HR@10": hit_rate_at_k(rank[inside], 10),
                "NDCG@10": ndcg_at_k(rank[inside], 10),
            }
        )
    return found


@dataclass(frozen=True)
class Margin:
    """The lead of one scorer over another in the mean over users, with its two-sided `p`."""

    difference: float
    standard_error: float
    z: float
    p: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def paired_test(first: Tensor, second: Tensor, user_index: Tensor) -> dict[str, Margin]:
    """Whether ranks `first` [T] beat ranks `second` [T] of the same held-out items: margins in HR@10 and NDCG@10.

    A user with several rows counts once, with the mean of the rows. The standard error assumes no difference, so with
    one row for each user the test of HR@10 is McNemar's.
    """
    metrics: dict[str, Callable[[Tensor, int], Tensor]] = {"HR@10": hits, "NDCG@10": gains}
    return {name: _margin(of(first, 10) - of(second, 10), user_index) for name, of in metrics.items()}


def _margin(difference: Tensor, user_index: Tensor) -> Margin:
    user, rows = torch.unique(user_index, return_inverse=True)
    total = difference.new_zeros(len(user)).index_add_(0, rows, difference)
    mine = total / torch.bincount(rows, minlength=len(user))
    square = mine.square().sum().item()
    if square == 0.0:
        return Margin(0.0, 0.0, 0.0, 1.0)
    z = mine.sum().item() / sqrt(square)
    return Margin(mine.mean().item(), sqrt(square) / len(user), z, erfc(abs(z) / sqrt(2.0)))
