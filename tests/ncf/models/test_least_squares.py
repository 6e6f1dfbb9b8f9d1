from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ncf.models import least_squares
from ncf.models.least_squares import ials, solve_rows, transposed
from tests.ncf.models.test_closed_form import NUM_ITEMS, everybody, some_seen


@pytest.mark.parametrize("at_once", [2**24, 100])  # one block, or many, with long rows in parts
@pytest.mark.parametrize("size", [3, 6])  # of the rows' 1 to 9 cells, more or fewer than factors
@pytest.mark.parametrize("weighted", [False, True])
def test_every_row_is_solved_exactly(at_once: int, size: int, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, ridge, unobserved = some_seen(), 0.05, 0.2
    weight = torch.rand(len(seen.items), generator=torch.Generator().manual_seed(2)) + 0.5 if weighted else None
    monkeypatch.setattr(least_squares, "SCORES_AT_ONCE", at_once)
    factors = torch.randn((NUM_ITEMS, size), generator=torch.Generator().manual_seed(1))
    solved = solve_rows(seen, factors, ridge, unobserved, weight)
    table, items = everybody(seen), factors.double()
    if weight is not None:
        table[table > 0] = weight.double()  # the cells of a table are in the order of the rows, too
    for user, row in enumerate(table):
        cells = torch.diag(row) + unobserved * torch.eye(NUM_ITEMS)
        left = items.t() @ cells @ items + ridge * (row.sum() + unobserved * NUM_ITEMS) * torch.eye(size)
        expected = torch.linalg.solve(left, items.t() @ row)
        torch.testing.assert_close(solved[user].double(), expected, atol=1e-5, rtol=1e-4)
    assert solved[0].abs().max() == 0.0


def test_an_epoch_of_ials_lowers_what_it_minimises() -> None:
    seen, ridge, unobserved = some_seen(60, 30), 0.02, 0.1
    table = everybody(seen)

    def objective(users: Tensor, items: Tensor) -> float:
        product = users.double() @ items.double().t()
        loss = (table * (product - 1).square()).sum() + unobserved * product.square().sum()
        for factors, count, columns in ((users, table.sum(1), 30), (items, table.sum(0), 60)):
            loss += ridge * ((count + unobserved * columns) * factors.double().square().sum(1)).sum()
        return float(loss)

    losses = [objective(*ials(seen, 4, epochs, ridge, unobserved)) for epochs in (1, 2, 4, 8)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] * 1.001


def test_ials_repeats_itself_with_a_seed() -> None:
    first, again, other = (ials(some_seen(), 4, 2, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_the_transpose_has_the_same_pairs() -> None:
    seen = some_seen()
    by, order = transposed(seen)
    assert torch.equal(everybody(by), everybody(seen).t())
    assert torch.equal(seen.items[order], torch.repeat_interleave(by.counts()))
