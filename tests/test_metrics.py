from __future__ import annotations

from math import log2, nan

import pytest
import torch

from ncf.metrics import hit_rate_at_k, mean_reciprocal_rank, ndcg_at_k, rank_of_positive, summarise

NONE = torch.zeros(1, 3, dtype=torch.bool)


def rank(positive: float, others: list[float], excluded: torch.Tensor = NONE) -> int:
    return int(rank_of_positive(torch.tensor([positive]), torch.tensor([others]), excluded)[0])


def test_rank_counts_what_is_ahead() -> None:
    assert rank(2.0, [1.0, 0.0, -1.0]) == 0
    assert rank(0.5, [1.0, 0.0, -1.0]) == 1


def test_ties_count_against_the_positive() -> None:
    assert rank(1.0, [1.0, 1.0, 0.0]) == 2


def test_what_is_not_a_number_counts_against_the_positive() -> None:
    assert rank(nan, [1.0, 0.0, 0.0]) == 3
    assert rank(1.0, [nan, 0.0, 0.0]) == 1


def test_excluded_others_do_not_count() -> None:
    assert rank(1.0, [2.0, 2.0, 0.0], torch.tensor([[True, False, False]])) == 1


def test_figures_of_known_ranks() -> None:
    ranks = torch.tensor([0, 2, 9, 10, 25])
    assert hit_rate_at_k(ranks, 10) == pytest.approx(3 / 5)
    assert ndcg_at_k(ranks, 10) == pytest.approx((1 + 1 / log2(4) + 1 / log2(11)) / 5)
    assert mean_reciprocal_rank(ranks) == pytest.approx((1 + 1 / 3 + 1 / 10 + 1 / 11 + 1 / 26) / 5)
    assert summarise(ranks)["HR@20"] == pytest.approx(4 / 5)
    assert list(summarise(ranks)) == ["HR@10", "NDCG@10", "MRR", "HR@20"]
