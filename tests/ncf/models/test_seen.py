from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import polars as pl
import pytest
import torch

import ncf.models.seen
from ncf.data.interactions import IdIndex, Interactions
from ncf.models.seen import SeenItems

pytestmark = pytest.mark.core

# User 0 has seen 1, 3, 4 of 6; user 1 nothing; user 2 everything; user 3 the first and last
USERS = torch.tensor([0, 0, 0, 2, 2, 2, 2, 2, 2, 3, 3])
ITEMS = torch.tensor([4, 1, 3, 0, 1, 2, 3, 4, 5, 5, 0])


def seen() -> SeenItems:
    return SeenItems.of(USERS, ITEMS, 4, 6)


def test_csr_holds_each_users_items_in_order() -> None:
    table = seen()
    assert table.indptr.tolist() == [0, 3, 3, 9, 11]
    assert table.items.tolist() == [1, 3, 4, 0, 1, 2, 3, 4, 5, 0, 5]


def test_draws_are_unseen_uniform_and_complete() -> None:
    users = torch.tensor([0, 1, 3])
    items, some = seen().draw_unseen(users, 30_000, torch.Generator().manual_seed(0))
    assert some.all()
    for row, unseen in zip(items, ([0, 2, 5], [0, 1, 2, 3, 4, 5], [1, 2, 3, 4]), strict=True):
        counts = torch.bincount(row, minlength=6)
        assert counts.nonzero().flatten().tolist() == unseen
        expected = 30_000 / len(unseen)
        assert ((counts[unseen] - expected).abs() < 5 * expected**0.5).all()  # five standard deviations


@pytest.mark.parametrize("num", [2, 3, 5])
@pytest.mark.parametrize("many", [1, 3])
def test_distinct_draws_are_every_set_of_unseen_items_equally_often(
    num: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User 0 has 3 unseen items, user 1 has 6, user 2 none and user 3 has 4."""
    monkeypatch.setattr(ncf.models.seen, "MANY", many)  # by repeated draws, and by permutations
    monkeypatch.setattr(ncf.models.seen, "ROWS_AT_ONCE", 1000)
    times = 6000
    items, some = seen().draw_distinct(torch.arange(4).repeat(times), num, torch.Generator().manual_seed(0))
    for user, unseen in enumerate(([0, 2, 5], [0, 1, 2, 3, 4, 5], [], [1, 2, 3, 4])):
        size = min(num, len(unseen))
        rows, mask = items[user::4], some[user::4]
        assert (mask.sum(1) == size).all()
        found = Counter(tuple(sorted(row[kept].tolist())) for row, kept in zip(rows, mask, strict=True))
        sets = list(combinations(unseen, size))
        assert set(found) == set(sets)
        expected = times / len(sets)
        # Eight standard deviations: the number of draws, and so of chances, is large.
        assert all(abs(count - expected) <= 8 * (expected * (1 - 1 / len(sets))) ** 0.5 for count in found.values())


def test_distinct_draws_are_seeded() -> None:
    draws = [seen().draw_distinct(torch.arange(4), 2, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_who_has_seen_everything_has_no_negative() -> None:
    items, some = seen().draw_unseen(torch.tensor([2, 0]), 4, torch.Generator().manual_seed(0))
    assert some.tolist() == [False, True]
    assert items.min() >= 0
    assert items.max() < 6


def test_the_draw_is_seeded() -> None:
    draws = [seen().draw_unseen(torch.arange(4), 50, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def same(one: SeenItems, other: SeenItems) -> bool:
    names = ("indptr", "items", "rank_keys")
    return one.num_items == other.num_items and all(torch.equal(getattr(one, n), getattr(other, n)) for n in names)


def test_narrow_indices_do_not_overflow() -> None:
    user, item = (torch.tensor(index, dtype=torch.int32) for index in ([99_999, 3], [70_000, 80_000]))
    table = SeenItems.of(user, item, 100_000, 90_000)
    assert same(table, SeenItems.of(user.long(), item.long(), 100_000, 90_000))
    wide, narrow = (
        table.draw_unseen(user.to(dtype), 9, torch.Generator().manual_seed(1))[0]
        for dtype in (torch.int64, torch.int32)
    )
    assert torch.equal(wide, narrow)


def sorted_interactions() -> Interactions:
    order = np.lexsort((ITEMS.numpy(), USERS.numpy()))
    user, item = (index.numpy()[order].astype(np.int32) for index in (USERS, ITEMS))
    users, items = (IdIndex(pl.Series(range(size))) for size in (4, 6))
    return Interactions(users, items, user, item, indptr=np.array([0, 3, 3, 9, 11]))


def test_sorted_rows_need_neither_sort_nor_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sorted_interactions()
    monkeypatch.setattr(ncf.models.seen, "USERS_AT_ONCE", 3)
    table = SeenItems.of_interactions(data)
    assert table.items.data_ptr() == data.item_index.ctypes.data
    expected = seen()
    assert torch.equal(table.rank_keys, expected.rank_keys)
    draws = [t.draw_unseen(torch.arange(4), 50, torch.Generator().manual_seed(3))[0] for t in (table, expected)]
    assert torch.equal(*draws)
    unsorted = Interactions(data.users, data.items, USERS.numpy(), ITEMS.numpy())
    assert same(SeenItems.of_interactions(unsorted), expected)


@pytest.mark.parametrize("seed", range(20))
def test_further_pairs_are_merged(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)

    def pairs(num: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randint(12, (num,), generator=random), torch.randint(9, (num,), generator=random)

    (user, item), (more_users, more_items) = pairs(4 * seed), pairs(30)
    table = SeenItems.of(user, item, 12, 9).including(more_users, more_items)
    assert same(table, SeenItems.of(torch.cat([user, more_users]), torch.cat([item, more_items]), 12, 9))


def test_a_rows_draw_depends_on_its_place_not_on_the_other_users() -> None:
    one, other = (
        seen().draw_unseen(torch.tensor(users), 9, torch.Generator().manual_seed(5))[0]
        for users in ([3, 0, 1], [0, 0, 1])
    )
    assert torch.equal(one[1:], other[1:])
