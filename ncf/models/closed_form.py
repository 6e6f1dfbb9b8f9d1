"""Recommenders with a closed-form solution: EASE and EDLAE (an item-item matrix), iALS (factors by least squares).

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


def ials(
    seen: SeenItems,
    num_factors: int,
    epochs: int = 12,
    regularization: float = 0.007,
    unobserved_weight: float = 0.3,
    init_std: float = 0.1,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """iALS (Rendle et al. 2021, arXiv 2110.14037): factors of users [num_users, d] and items [num_items, d].

    Scores are fitted by least squares to 1 for seen items and, with `unobserved_weight`, to 0 for all items. The ridge
    of a row is `regularization` times (its interactions + unobserved_weight · the number of columns). An epoch solves
    the users, then the items, each exactly. The users are solved once more at the end, to fit the returned items.
    """
    device, num_users = seen.items.device, len(seen.counts())
    owner = torch.repeat_interleave(torch.arange(num_users, device=device), seen.counts())
    seen_by = SeenItems.of(seen.items, owner, seen.num_items, num_users, device)
    generator = torch.Generator(device).manual_seed(seed)
    items = torch.randn((seen.num_items, num_factors), generator=generator, device=device)
    items *= init_std / num_factors**0.5
    for _ in range(epochs):
        users = solve_rows(seen, items, regularization, unobserved_weight)
        items = solve_rows(seen_by, users, regularization, unobserved_weight)
    return solve_rows(seen, items, regularization, unobserved_weight), items


def solve_rows(seen: SeenItems, factors: Tensor, regularization: float, unobserved_weight: float) -> Tensor:
    """The factors [rows, d] of all rows of `seen` that fit the columns' factors [columns, d] best (see `ials`)."""
    num_columns, size = factors.shape
    count = seen.counts()
    everywhere = unobserved_weight * factors.t() @ factors
    ridge = regularization * (count + unobserved_weight * num_columns)
    solved = torch.zeros((len(count), size), device=factors.device)
    # Rows are sorted by length, so that a block needs little padding. The padding is an extra column of zeros.
    padded = torch.cat([factors, factors.new_zeros((1, size))])
    order = torch.argsort(count, descending=True)
    order = order[: int((count > 0).sum())]
    start = 0
    while start < len(order):
        longest = int(count[order[start]])
        row = order[start : start + max(1, SCORES_AT_ONCE // (4 * size * max(longest, size)))]
        start += len(row)
        left = everywhere + ridge[row, None, None] * torch.eye(size, device=factors.device)
        right = torch.zeros((len(row), size), device=factors.device)
        for first in range(0, longest, max(1, SCORES_AT_ONCE // (4 * size))):
            offset = torch.arange(first, min(longest, first + max(1, SCORES_AT_ONCE // (4 * size))), device=row.device)
            present = offset < count[row].unsqueeze(1)
            position = torch.where(present, seen.indptr[row].unsqueeze(1) + offset, 0)
            mine = padded[torch.where(present, seen.items[position].long(), num_columns)]
            left.baddbmm_(mine.transpose(1, 2), mine)
            right += mine.sum(dim=1)
        solved[row] = torch.cholesky_solve(right.unsqueeze(2), torch.linalg.cholesky(left)).squeeze(2)
    return solved
