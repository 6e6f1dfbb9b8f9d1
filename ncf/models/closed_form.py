"""Recommenders with a closed-form solution: EASE and EDLAE, an item-item matrix each.

X below is the binary matrix of seen items, [num_users, num_items].
"""

from __future__ import annotations

import torch
from torch import Tensor

from ncf.models.neural import SCORES_AT_ONCE
from ncf.models.seen import SeenItems, seen_positions


def dense_rows(seen: SeenItems, user_index: Tensor) -> Tensor:
    """The rows of X of users [B]: float32 [B, num_items]."""
    rows = torch.zeros((len(user_index), seen.num_items), device=seen.items.device)
    row, position = seen_positions(seen.indptr, user_index)
    rows[row, seen.items[position].long()] = 1.0
    return rows


def gram(seen: SeenItems, user_weight: Tensor | None = None) -> Tensor:
    """XᵀAX, float32 [num_items, num_items]; A is diagonal with `user_weight` [num_users], or the identity."""
    device, num_items = seen.items.device, seen.num_items
    total = torch.zeros((num_items, num_items), device=device)
    everybody = torch.arange(len(seen.counts()), device=device)
    at_once = max(1, SCORES_AT_ONCE // num_items)
    for start in range(0, len(everybody), at_once):
        user = everybody[start : start + at_once]
        rows = dense_rows(seen, user)
        weighted = rows if user_weight is None else rows * user_weight[user].float().unsqueeze(1)
        total.addmm_(weighted.t(), rows)
    return total


def ease(seen: SeenItems, l2: float) -> Tensor:
    """EASE (Steck 2019, arXiv 1905.03375): B [num_items, num_items] of the ridge regression X ≈ XB with diag(B) = 0.

    ValueError if l2 is not above 0.
    """
    return _without_diagonal(gram(seen), torch.full((seen.num_items,), l2, device=seen.items.device))


def edlae(seen: SeenItems, dropout: float = 0.33, l2: float = 500.0, user_weight_power: float = -0.5) -> Tensor:
    """EDLAE (Steck 2020, "Autoencoders that don't overfit towards the identity"): B [num_items, num_items].

    EASE with a ridge that grows with an item's interactions, `l2 + dropout / (1 - dropout) · diag(G)`, and with users
    weighted by (their interactions / the mean)^user_weight_power. ValueError if l2 is not above 0.
    """
    count = seen.counts().float()
    some = count > 0
    weight = torch.where(some, (count / count[some].mean()).clamp(min=1e-6) ** user_weight_power, 0.0)
    weighted = gram(seen, weight)
    return _without_diagonal(weighted, l2 + dropout / (1.0 - dropout) * weighted.diagonal())


def _without_diagonal(matrix: Tensor, ridge: Tensor) -> Tensor:
    """-P / diag(P) with a zero diagonal, for P = (matrix + diag(ridge))⁻¹; `matrix` is overwritten."""
    if not bool((ridge > 0).all()):
        raise ValueError("the ridge must be above 0 for every item")
    matrix.diagonal().add_(ridge)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    inverse.div_(-inverse.diagonal().clone())
    inverse.fill_diagonal_(0.0)
    return inverse


def scores(seen: SeenItems, user_index: Tensor, item_item: Tensor) -> Tensor:
    """Scores X_u·B of users [B] under an item-item matrix: [B, num_items].

    It is one dense product: gathering the seen items' rows of B instead took 15 times as long.
    """
    product: Tensor = dense_rows(seen, user_index) @ item_item
    return product
