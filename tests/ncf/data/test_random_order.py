from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ncf.data import random_order as module
from ncf.data.interactions import IdIndex
from ncf.data.random_order import random_order

pytestmark = pytest.mark.core


def slow_order(user: str, item: str, seed: int) -> int:
    """The same number in plain whole numbers."""

    def mixed(value: int) -> int:
        value = (value + 0x9E3779B97F4A7C15) % 2**64
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    def hashed(text: str) -> int:
        return mixed(sum(mixed(place * 256 + byte) for place, byte in enumerate(text.encode())))

    return mixed(mixed(hashed(user) + seed) + hashed(item))


@pytest.mark.parametrize("ids_at_once", [2**16, 2])
@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_the_order_of_any_ids_is_that_of_a_slow_reading(
    seed: int, ids_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDS_AT_ONCE", ids_at_once)
    users, items = (
        IdIndex.of(pl.Series(ids))
        for ids in (["", "a", "b", "ab", "ba", "Zoë", "x" * 300, "7"], [-(2**63), 0, 7, 10, 2**63 - 1])
    )
    user, item = np.repeat(np.arange(len(users)), len(items)), np.tile(np.arange(len(items)), len(users))
    raw = zip(users.decode(user), items.decode(item), strict=True)
    assert random_order(users, items, seed)(user, item).tolist() == [slow_order(str(u), str(i), seed) for u, i in raw]


def test_the_order_never_changes() -> None:
    """Else a newer version would evaluate an older run on items that it was trained on."""
    users, items = IdIndex(pl.Series(["u1", "u2"])), IdIndex(pl.Series([1, 2]))
    order = random_order(users, items, 3)(np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert order.tolist() == [3816477143395663481, 9098913030950695075, 6698559296890522355]


def test_the_random_order_is_different_for_each_pair_and_even() -> None:
    user, item = np.repeat(np.arange(300), 300), np.tile(np.arange(300), 300)
    users, items = (IdIndex(pl.Series(range(300))) for _ in range(2))
    order = random_order(users, items, 0)(user, item)
    assert len(np.unique(order)) == len(order)
    # Each place is a user's largest equally often: the chi-square over 300 items stays within five deviations.
    chosen = np.bincount(order.reshape(300, 300).argmax(1), minlength=300)
    assert abs(((chosen - 1) ** 2).sum() - 299) < 5 * (2 * 299) ** 0.5
