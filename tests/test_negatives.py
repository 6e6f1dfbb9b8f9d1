from __future__ import annotations

import torch

from ncf.negatives import SeenItems

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


def test_who_has_seen_everything_has_no_negative() -> None:
    items, some = seen().draw_unseen(torch.tensor([2, 0]), 4, torch.Generator().manual_seed(0))
    assert some.tolist() == [False, True]
    assert items.min() >= 0
    assert items.max() < 6


def test_the_draw_is_seeded() -> None:
    draws = [seen().draw_unseen(torch.arange(4), 50, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
