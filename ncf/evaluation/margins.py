"""Whether one scorer is better than another on the same held-out items: a test and a confidence interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import erfc, sqrt

import torch
from torch import Tensor

from ncf.evaluation.metrics import Values

QUANTILE = 1.959964  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Margin:
    """The lead of one scorer over another in a mean, with its two-sided `p` and its 95 % interval `low` to `high`.

    `standard_error` and `z` are those of the test, under "no difference". With three users or fewer, or if one has most
    of the rows, no lead is beyond chance and nothing bounds it: `low` and `high` are None.
    """

    difference: float
    standard_error: float
    z: float
    p: float
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


def paired_test(first: Values, second: Values, user_index: Tensor) -> dict[str, Margin]:
    """Whether the values of `first` [T] beat those of `second` [T], which belong to the same items or users.

    The lead is the difference of the two means. Rows of one user are not independent, so the standard error is that of
    the sum over users of each user's rows. It assumes no difference, so with one row for each user the test of hits is
    McNemar's. The interval holds every lead that the same test does not reject: it is without 0 if and only if p < .05.
    """
    user, rows = torch.unique(user_index, return_inverse=True)
    size = torch.bincount(rows, minlength=len(user)).double()
    return {name: _margin(value - second[name], rows, size) for name, value in first.items()}


def _margin(difference: Tensor, rows: Tensor, size: Tensor) -> Margin:
    """The margin of differences [T], whose users 0..U-1 are `rows` [T] and have `size` [U] rows each."""
    total = torch.zeros_like(size).index_add_(0, rows, difference)
    square = total.square().sum().item()
    if square == 0.0:
        return Margin(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    z, mean = total.sum().item() / sqrt(square), difference.mean().item()
    low, high = _interval(total, size, mean)
    return Margin(mean, sqrt(square) / len(difference), z, erfc(abs(z) / sqrt(2.0)), low, high)


def _interval(total: Tensor, size: Tensor, mean: float) -> tuple[float | None, float | None]:
    """The leads d with |Σ(t - d·n)| ≤ 1.96·√Σ(t - d·n)², t the `total` and n the `size` of each user.

    With d = mean + e this is a·e² + 2·b·e - c ≤ 0.
    """
    rest, quantile = total - mean * size, QUANTILE**2
    a = size.sum().item() ** 2 - quantile * size.square().sum().item()
    if a <= 0.0:
        return None, None
    b, c = quantile * (rest * size).sum().item(), quantile * rest.square().sum().item()
    half = sqrt(b**2 + a * c)
    return mean - (b + half) / a, mean + (half - b) / a
