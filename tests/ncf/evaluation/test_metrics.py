from __future__ import annotations

from math import erfc, log2, nan, sqrt

import pytest
import torch

from ncf.evaluation.metrics import (
    by_group,
    curves,
    hit_rate_at_k,
    mean_reciprocal_rank,
    ndcg_at_k,
    paired_test,
    rank_of_positive,
    summarise,
)

pytestmark = pytest.mark.core

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


def test_curves_hold_every_k() -> None:
    found = curves(torch.tensor([0, 2, 9, 10, 25, 200]))
    assert list(found["HR"]) == list(found["NDCG"]) == ["1", "5", "10", "20", "50", "100"]
    assert list(found["HR"].values()) == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 5 / 6])
    assert found["NDCG"]["5"] == pytest.approx((1 + 1 / log2(4)) / 6)


def test_groups_are_of_equal_size_and_never_part_equal_values() -> None:
    value = torch.tensor([7, 1, 1, 1, 1, 1, 9, 3, 8, 2])
    rank = torch.tensor([0, 50, 0, 50, 50, 50, 0, 50, 2, 0])
    found = by_group(rank, value)
    assert [(group["from"], group["to"], group["held_out"]) for group in found] == [(1, 2, 6), (3, 7, 2), (8, 9, 2)]
    assert [group["HR@10"] for group in found] == pytest.approx([2 / 6, 1 / 2, 1])
    assert found[2]["NDCG@10"] == pytest.approx((1 + 1 / 2) / 2)


def test_groups_of_few_or_none() -> None:
    assert by_group(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)) == []
    assert [group["held_out"] for group in by_group(torch.tensor([3]), torch.tensor([8]))] == [1]


def test_the_paired_test_of_hits_is_mcnemars() -> None:
    """Of 12 users 5 are hit by the first only, 1 by the second only."""
    first = torch.tensor([0] * 5 + [50] * 1 + [3] * 4 + [99] * 2)
    second = torch.tensor([50] * 5 + [0] * 1 + [3] * 4 + [99] * 2)
    margin = paired_test(first, second, torch.arange(12))["HR@10"]
    assert margin.difference == pytest.approx(4 / 12)
    assert margin.z == pytest.approx((5 - 1) / sqrt(5 + 1))
    assert margin.standard_error == pytest.approx(sqrt(6) / 12)
    assert margin.p == pytest.approx(erfc(margin.z / sqrt(2)))


def test_the_paired_test_of_gains_by_hand() -> None:
    margin = paired_test(torch.tensor([0, 2, 30]), torch.tensor([2, 2, 0]), torch.tensor([4, 1, 0]))["NDCG@10"]
    differences = [1 - 1 / 2, 0, -1]
    assert margin.difference == pytest.approx(sum(differences) / 3)
    assert margin.z == pytest.approx(sum(differences) / sqrt(sum(d * d for d in differences)))
    assert margin.z < 0 < margin.p < 1


def test_a_user_with_several_rows_counts_once() -> None:
    """User 7 wins two of four rows, user 2 loses its only one: means of .5 and -1."""
    user = torch.tensor([7, 2, 7, 7, 7])
    margin = paired_test(torch.tensor([0, 90, 0, 5, 5]), torch.tensor([90, 0, 90, 5, 5]), user)["HR@10"]
    assert margin.difference == pytest.approx((0.5 - 1) / 2)
    assert margin.z == pytest.approx((0.5 - 1) / sqrt(0.5**2 + 1))


def test_equal_rankings_differ_by_nothing() -> None:
    rank = torch.tensor([0, 5, 90])
    for margin in paired_test(rank, rank, torch.arange(3)).values():
        assert (margin.difference, margin.z, margin.p) == (0.0, 0.0, 1.0)
