"""Ranking metrics on the rank of one held-out item among others: HR@K, NDCG@K, MRR."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_of_positive(positive: Tensor, others: Tensor, excluded: Tensor) -> Tensor:
    """Rank, 0 is best, of scores `positive` [T] among `others` [T, C] but for those `excluded` (bool [T, C]).

    A tie counts against the positive, and so does a score that is not a number on either side.
    """
    ahead = ~(others < positive.unsqueeze(1)) & ~excluded
    return ahead.sum(dim=1)


def hit_rate_at_k(rank: Tensor, k: int) -> float:
    """Share of ranks [T] below k."""
    return (rank < k).double().mean().item()


def ndcg_at_k(rank: Tensor, k: int) -> float:
    """Mean of 1/log2(rank + 2) over ranks [T], zero from k on (one relevant item, so the ideal gain is 1)."""
    gain = 1.0 / torch.log2(rank.double() + 2.0)
    return torch.where(rank < k, gain, 0.0).mean().item()


def mean_reciprocal_rank(rank: Tensor) -> float:
    """Mean of 1/(rank + 1) over ranks [T]."""
    return (1.0 / (rank.double() + 1.0)).mean().item()


def summarise(rank: Tensor) -> dict[str, float]:
    """The four figures every report prints."""
    return {
        "HR@10": hit_rate_at_k(rank, 10),
        "NDCG@10": ndcg_at_k(rank, 10),
        "MRR": mean_reciprocal_rank(rank),
        "HR@20": hit_rate_at_k(rank, 20),
    }
