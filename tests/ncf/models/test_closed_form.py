from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ncf.models import closed_form
from ncf.models.closed_form import dense_rows, ease, edlae, gram, scores
from ncf.models.least_squares import ials
from ncf.models.seen import SeenItems

NUM_USERS, NUM_ITEMS = 40, 12


def some_seen(num_users: int = NUM_USERS, num_items: int = NUM_ITEMS, share: float = 0.4) -> SeenItems:
    """Random interactions; the first user has none, and so has the last item."""
    table = torch.rand((num_users, num_items), generator=torch.Generator().manual_seed(5)) < share
    table[0, :] = False
    table[:, -1] = False
    user, item = table.nonzero(as_tuple=True)
    return SeenItems.of(user, item, num_users, num_items)


def everybody(seen: SeenItems) -> Tensor:
    return dense_rows(seen, torch.arange(len(seen.counts()))).double()


def ridge_without_itself(table: Tensor, weight: Tensor, ridge: Tensor) -> Tensor:
    """The definition, an item at a time: its column by weighted ridge regression on all other columns."""
    num_items = table.shape[1]
    solved = torch.zeros((num_items, num_items), dtype=torch.float64)
    for item in range(num_items):
        others = [other for other in range(num_items) if other != item]
        left = table[:, others].t() @ (weight[:, None] * table[:, others]) + torch.diag(ridge[others])
        solved[others, item] = torch.linalg.solve(left, table[:, others].t() @ (weight * table[:, item]))
    return solved


def test_gram_is_the_product_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, weight = some_seen(), torch.rand(NUM_USERS, generator=torch.Generator().manual_seed(6))
    table = everybody(seen)
    monkeypatch.setattr(closed_form, "SCORES_AT_ONCE", 7 * NUM_ITEMS)
    torch.testing.assert_close(gram(seen).double(), table.t() @ table)
    weighted = table.t() @ (weight.double()[:, None] * table)
    torch.testing.assert_close(gram(seen, weight).double(), weighted, atol=1e-5, rtol=1e-5)  # sums of float32


def test_ease_is_ridge_regression_on_all_other_items() -> None:
    seen = some_seen()
    table = everybody(seen)
    expected = ridge_without_itself(table, torch.ones(NUM_USERS).double(), torch.full((NUM_ITEMS,), 3.0).double())
    solved = ease(seen, 3.0)
    torch.testing.assert_close(solved.double(), expected, atol=1e-5, rtol=1e-4)
    assert solved.diagonal().abs().max() == 0.0


def test_edlae_is_the_same_with_users_weighted_and_a_ridge_by_popularity() -> None:
    seen = some_seen()
    table, count = everybody(seen), seen.counts().double()
    weight = torch.where(count > 0, (count / count[count > 0].mean()) ** -0.5, 0.0)
    popularity = (weight[:, None] * table).sum(0)
    expected = ridge_without_itself(table, weight, 5.0 + 0.2 / 0.8 * popularity)
    torch.testing.assert_close(edlae(seen, 0.2, 5.0, -0.5).double(), expected, atol=1e-5, rtol=1e-4)


def test_edlae_without_weights_and_dropout_is_ease() -> None:
    seen = some_seen()
    torch.testing.assert_close(edlae(seen, 0.0, 4.0, 0.0), ease(seen, 4.0))


def test_a_ridge_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        ease(some_seen(), 0.0)


def test_scores_are_the_product_of_rows_and_matrix() -> None:
    seen, user = some_seen(), torch.tensor([3, 0, 3, 39])
    matrix = torch.rand((NUM_ITEMS, NUM_ITEMS))
    torch.testing.assert_close(scores(seen, user, matrix).double(), everybody(seen)[user] @ matrix.double())


def test_a_planted_taste_is_found() -> None:
    """A checkerboard: even users like even items. What a user has not seen of their colour comes before the rest."""
    user, item = np.divmod(np.arange(20 * 10), 10)
    liked = (user % 2 == item % 2) & ((user + item) % 7 != 0)
    seen = SeenItems.of(user[liked], item[liked], 20, 10)
    users, items = ials(seen, 4, 5)
    everyone = torch.arange(20)
    for score in (
        scores(seen, everyone, ease(seen, 1.0)),
        scores(seen, everyone, edlae(seen, l2=1.0)),
        users @ items.t(),
    ):
        for person in range(20):
            same = torch.arange(10) % 2 == person % 2
            assert score[person, same].min() > score[person, ~same].max()
