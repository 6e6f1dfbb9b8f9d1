from __future__ import annotations

from math import erfc, sqrt

import pytest
import torch

from ncf.evaluation.margins import QUANTILE, Margin, paired_test
from ncf.evaluation.metrics import row_values

pytestmark = pytest.mark.core


def margins_of(first: torch.Tensor, second: torch.Tensor, user_index: torch.Tensor) -> dict[str, Margin]:
    """The margins of ranks."""
    return paired_test(row_values(first), row_values(second), user_index)


def test_the_paired_test_of_hits_is_mcnemars() -> None:
    """Of 12 users 5 are hit by the first only, 1 by the second only."""
    first = torch.tensor([0] * 5 + [50] * 1 + [3] * 4 + [99] * 2)
    second = torch.tensor([50] * 5 + [0] * 1 + [3] * 4 + [99] * 2)
    margin = margins_of(first, second, torch.arange(12))["HR@10"]
    assert margin.difference == pytest.approx(4 / 12)
    assert margin.z == pytest.approx((5 - 1) / sqrt(5 + 1))
    assert margin.standard_error == pytest.approx(sqrt(6) / 12)
    assert margin.p == pytest.approx(erfc(margin.z / sqrt(2)))


def test_the_paired_test_of_gains_by_hand() -> None:
    margin = margins_of(torch.tensor([0, 2, 30]), torch.tensor([2, 2, 0]), torch.tensor([4, 1, 0]))["NDCG@10"]
    differences = [1 - 1 / 2, 0, -1]
    assert margin.difference == pytest.approx(sum(differences) / 3)
    assert margin.z == pytest.approx(sum(differences) / sqrt(sum(d * d for d in differences)))
    assert margin.z < 0 < margin.p < 1


def test_the_lead_is_over_rows_and_a_users_rows_are_one_observation() -> None:
    """User 7 wins two rows of four and loses one, user 2 loses its only one."""
    user = torch.tensor([7, 2, 7, 7, 7])
    first, second = torch.tensor([0, 90, 0, 5, 90]), torch.tensor([90, 0, 90, 5, 5])
    margin = margins_of(first, second, user)["HR@10"]
    assert margin.difference == 0.0
    margin = margins_of(first[:4], second[:4], user[:4])["HR@10"]
    assert margin.difference == pytest.approx((2 - 1) / 4)
    assert margin.z == pytest.approx((2 - 1) / sqrt(2**2 + 1**2))
    assert margin.standard_error == pytest.approx(margin.difference / margin.z)


def test_equal_rankings_differ_by_nothing() -> None:
    rank = torch.tensor([0, 5, 90])
    for margin in margins_of(rank, rank, torch.arange(3)).values():
        assert (margin.difference, margin.z, margin.p) == (0.0, 0.0, 1.0)


def test_every_metric_has_a_margin() -> None:
    assert list(margins_of(torch.tensor([0]), torch.tensor([3]), torch.tensor([0]))) == [
        "HR@10",
        "NDCG@10",
        "MRR",
        "HR@20",
    ]


def test_the_ends_of_the_interval_are_the_leads_that_the_test_just_rejects() -> None:
    """Of unequal numbers of rows: with d taken off each row, z is 1.96 at either end."""
    random = torch.Generator().manual_seed(0)
    user = torch.randint(40, (300,), generator=random) ** 2 // 40
    value = (
        torch.randn(300, generator=random, dtype=torch.float64) + 0.2 + 0.3 * torch.randn(40, generator=random)[user]
    )
    margin = paired_test({"x": value}, {"x": torch.zeros_like(value)}, user)["x"]
    assert margin.low is not None
    assert margin.high is not None
    assert margin.low < margin.difference < margin.high
    for end, sign in ((margin.low, 1), (margin.high, -1)):
        z = paired_test({"x": value}, {"x": torch.full_like(value, end)}, user)["x"].z
        assert z == pytest.approx(sign * QUANTILE)


def test_with_one_row_a_user_the_interval_is_the_textbooks() -> None:
    """For many users it is the mean ± 1.96 standard errors of the mean."""
    value = torch.randn(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    margin = paired_test({"x": value}, {"x": torch.zeros_like(value)}, torch.arange(4000))["x"]
    half = QUANTILE * value.std().item() / sqrt(4000)
    assert (margin.low, margin.high) == pytest.approx((margin.difference - half, margin.difference + half), rel=1e-3)


def test_about_95_of_100_intervals_hold_the_true_lead() -> None:
    random, held = torch.Generator().manual_seed(2), 0
    for _ in range(400):
        value = (torch.rand(200, generator=random) < 0.3).double() - (torch.rand(200, generator=random) < 0.2).double()
        margin = paired_test({"x": value}, {"x": torch.zeros_like(value)}, torch.arange(200))["x"]
        assert margin.low is not None
        assert margin.high is not None
        assert (margin.p < 0.05) == (not margin.low <= 0 <= margin.high)
        held += margin.low <= 0.1 <= margin.high
    assert 0.92 < held / 400 < 0.98


def test_three_users_bound_nothing() -> None:
    margin = margins_of(torch.tensor([0, 0, 0]), torch.tensor([50, 60, 70]), torch.arange(3))["HR@10"]
    assert (margin.difference, margin.low, margin.high) == (1.0, None, None)
    assert margin.p > 0.05
