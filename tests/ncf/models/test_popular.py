"""Draws by popularity: the right shares, never a seen item, never an item without interactions."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ncf.models.popular
from ncf.data.interactions import IdIndex, Interactions
from ncf.data.splits import HeldOut, Split
from ncf.errors import InputError
from ncf.evaluation.ranking import Candidates
from ncf.models.popular import POWER, PopularItems, draw_distinct_popular, with_popular_negatives
from ncf.models.seen import SeenItems
from tests.support.training import CPU

pytestmark = pytest.mark.core

USERS = np.array([0, 0, 0, 2, 2, 2, 2, 2, 2, 3, 3, 4])
ITEMS = np.array([1, 3, 4, 0, 1, 2, 3, 4, 5, 0, 5, 2])
COUNTS = torch.tensor([1, 16, 0, 81, 256, 625])


def seen() -> SeenItems:
    return SeenItems.of(USERS, ITEMS, 5, 6)


def test_draws_have_the_shares_of_the_counts_to_the_power() -> None:
    users = torch.tensor([3, 0, 1, 4, 2])
    items, some = PopularItems.of(seen(), COUNTS).draw_unseen(users, 40_000, torch.Generator().manual_seed(0))
    assert some.tolist() == [True, True, True, True, False]
    assert POWER == 0.75
    weight = np.array([1, 8, 0, 27, 64, 125])
    for row, unseen in zip(items, ([1, 3, 4], [0, 5], [0, 1, 3, 4, 5], [0, 1, 3, 4, 5]), strict=False):
        found = np.bincount(row.numpy(), minlength=6)
        expected = 40_000 * weight[unseen] / weight[unseen].sum()
        assert found.nonzero()[0].tolist() == unseen
        assert (np.abs(found[unseen] - expected) < 5 * np.sqrt(expected)).all()


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=25, unique=True),
    st.lists(st.integers(0, 9), min_size=6, max_size=6).filter(any), st.integers(0, 2**40),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_no_draw_is_seen_or_without_interactions(pairs: list[tuple[int, int]], counts: list[int], seed: int) -> None:
    user, item = np.array(pairs).T
    table, count = SeenItems.of(user, item, 5, 6), torch.tensor(counts)
    of_user = {each: {i for u, i in pairs if u == each} for each in range(5)}
    possible = {each: {i for i in range(6) if counts[i]} - of_user[each] for each in range(5)}
    generator, users = torch.Generator().manual_seed(seed), torch.tensor([4, 0, 3, 1, 2])
    items, some = PopularItems.of(table, count).draw_unseen(users, 20, generator)
    distinct, drawn = draw_distinct_popular(table, count, users, 4, generator)
    for row, each in enumerate(users.tolist()):
        assert bool(some[row]) == bool(possible[each])
        if some[row]:
            assert set(items[row].tolist()) <= possible[each]
        found = distinct[row][drawn[row]].tolist()
        assert len(set(found)) == len(found) == min(4, len(possible[each]))
        assert set(found) <= possible[each]


def test_small_weights_are_drawn_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a total of a few units every point can be drawn, so that each unseen item has its number of points."""
    monkeypatch.setattr(ncf.models.popular, "TOTAL", 10)
    popular = PopularItems.of(seen(), torch.tensor([1, 2, 0, 3, 4, 0]), power=1.0)
    assert popular.ends.tolist() == [0, 1, 3, 3, 6, 10, 10]
    items, _ = popular.draw_unseen(torch.tensor([3]), 4000, torch.Generator().manual_seed(1))
    found = Counter(items[0].tolist())
    assert set(found) == {1, 3, 4}
    for item, units in ((1, 2), (3, 3), (4, 4)):
        expected = 4000 * units / 9
        assert abs(found[item] - expected) < 5 * expected**0.5


def test_distinct_draws_are_made_one_after_the_other() -> None:
    """The probability of an order is the product of each count's share of what is left."""
    times, counts = 30_000, torch.tensor([5, 1, 0, 3, 1, 2])
    users = torch.full((times,), 3)  # has seen 0 and 5
    items, drawn = draw_distinct_popular(seen(), counts, users, 2, torch.Generator().manual_seed(0))
    assert drawn.all()
    found = Counter(map(tuple, items.tolist()))
    left = {1: 1, 3: 3, 4: 1}
    for first, second in permutations(left, 2):
        expected = times * left[first] / 5 * left[second] / (5 - left[first])
        assert abs(found[first, second] - expected) < 5 * expected**0.5


def test_the_draws_are_seeded_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return draw_distinct_popular(seen(), COUNTS, torch.arange(5).repeat(9), 3, generator)[0].tolist()

    one = drawn(1)
    assert one != drawn(2)
    monkeypatch.setattr(ncf.models.popular, "CELLS_AT_ONCE", 12)
    assert drawn(1) == one


def split(negatives: np.ndarray | None = None) -> Split:  # type: ignore[type-arg]
    users, items = (IdIndex(pl.Series(range(size))) for size in (5, 6))
    held_out = HeldOut(np.array([0, 2, 3, 3]), np.array([0, 1, 1, 3]), negatives)
    train = (USERS != 2) | (ITEMS != 1)
    return Split(Interactions(users, items, USERS[train], ITEMS[train]), held_out)


def test_popular_negatives_of_held_out_rows() -> None:
    made = with_popular_negatives(split(), 99, CPU, 0).held_out
    assert made.negatives is not None
    rows = [sorted(row[row >= 0].tolist()) for row in made.negatives]
    # User 2 has seen or is asked for everything; nobody but user 2 has item 1 in training, and that is held out.
    assert rows == [[2, 5], [], [2, 4], [2, 4]]
    candidates = Candidates.of(made, split(), CPU, 0)
    assert candidates.user_index.tolist() == [0, 3, 3]
    with pytest.raises(InputError, match="negatives_among is popular, and the data have negatives of their own"):
        with_popular_negatives(split(np.zeros((4, 1), np.int64)), 99, CPU, 0)
