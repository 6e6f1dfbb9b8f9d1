from __future__ import annotations

from math import log2, nan

import pytest
import torch

from ncf.evaluation.metrics import Values, by_group, curves, means, rank_of_positive, row_values, share_behind

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
    assert means(row_values(ranks)) == {
        "HR@10": pytest.approx(3 / 5),
        "NDCG@10": pytest.approx((1 + 1 / log2(4) + 1 / log2(11)) / 5),
        "MRR": pytest.approx((1 + 1 / 3 + 1 / 10 + 1 / 11 + 1 / 26) / 5),
        "HR@20": pytest.approx(4 / 5),
    }
    assert means(row_values(ranks[:0])) == {}


def test_the_auc_of_a_rank_is_the_share_left_behind() -> None:
    assert share_behind(torch.tensor([0, 3, 99, 0]), torch.tensor([99, 4, 99, 0])).tolist() == [1.0, 0.25, 0.0, 1.0]


def test_curves_hold_every_k() -> None:
    found = curves(torch.tensor([0, 2, 9, 10, 25, 200]))
    assert list(found["HR"]) == list(found["NDCG"]) == ["1", "5", "10", "20", "50", "100"]
    assert list(found["HR"].values()) == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 5 / 6])
    assert found["NDCG"]["5"] == pytest.approx((1 + 1 / log2(4)) / 6)


def only(values: Values, inside: torch.Tensor) -> Values:
    return {name: value[inside] for name, value in values.items()}


def test_groups_are_of_equal_size_and_never_part_equal_values() -> None:
    value = torch.tensor([7, 1, 1, 1, 1, 1, 9, 3, 8, 2])
    rank = torch.tensor([0, 50, 0, 50, 50, 50, 0, 50, 2, 0])
    values = row_values(rank)
    found = by_group(value, lambda inside: {"held_out": int(inside.sum()), **means(only(values, inside))})
    assert [(group["from"], group["to"], group["held_out"]) for group in found] == [(1, 2, 6), (3, 7, 2), (8, 9, 2)]
    assert [group["HR@10"] for group in found] == pytest.approx([2 / 6, 1 / 2, 1])
    assert found[2]["NDCG@10"] == pytest.approx((1 + 1 / 2) / 2)


def test_groups_of_few_or_none() -> None:
    assert by_group(torch.empty(0, dtype=torch.int64), lambda inside: {}) == []
    assert by_group(torch.tensor([8]), lambda inside: {"held_out": int(inside.sum())}) == [
        {"from": 8, "to": 8, "held_out": 1}
    ]
