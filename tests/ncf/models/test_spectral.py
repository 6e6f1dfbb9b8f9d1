from __future__ import annotations

import pytest
import torch

from ncf.models.spectral import spectral
from tests.ncf.models.test_closed_form import NUM_ITEMS, NUM_USERS, everybody, some_seen


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_factors", [4, 99])
def test_the_scores_are_those_of_the_definition(num_factors: int, weighted: bool) -> None:
    """The first user and the last item have no interactions."""
    seen = some_seen()
    weight = torch.rand(len(seen.items), generator=torch.Generator().manual_seed(2)) + 0.5 if weighted else None
    users, items, lost = spectral(seen, num_factors, weight)
    assert users.shape == (NUM_USERS, min(num_factors, NUM_ITEMS))
    table = everybody(seen)
    if weight is not None:
        table[table > 0] = weight.double()
    of_user, of_item = (table.sum(axis).clamp(min=1e-9).rsqrt() for axis in (1, 0))
    normalised = of_user[:, None] * table * of_item
    _, values, right = torch.linalg.svd(normalised, full_matrices=False)
    first = right[: min(num_factors, NUM_ITEMS)]
    wanted = (table * of_item) @ first.t() @ first / of_item.where(of_item < 1e4, torch.inf)
    torch.testing.assert_close(users.double() @ items.double().t(), wanted, atol=1e-4, rtol=1e-3)
    left_out = values[num_factors:].square().sum() / values.square().sum()
    assert lost == pytest.approx(float(left_out), abs=1e-4)
