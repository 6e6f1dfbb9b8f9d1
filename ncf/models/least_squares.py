"""Factors by least squares over all cells of the matrix (iALS, Rendle et al. 2021, arXiv 2110.14037).

A seen cell is fitted to 1 with its weight, and every cell to 0 with a small weight. With the factors of the items
given, those of each user have a closed form, and vice versa.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ncf.models.neural import SCORES_AT_ONCE
from ncf.models.seen import SeenItems


def ials(
    seen: SeenItems,
    num_factors: int,
    epochs: int = 12,
    regularization: float = 0.007,
    unobserved_weight: float = 0.3,
    init_std: float = 0.1,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Factors of users [num_users, d] and items [num_items, d].

    An epoch solves the users, then the items, each exactly (see `solve_rows`). The users are solved once more at the
    end, to fit the returned items.
    """
    seen_by = transposed(seen)[0]
    generator = torch.Generator(seen.items.device).manual_seed(seed)
    items = torch.randn((seen.num_items, num_factors), generator=generator, device=seen.items.device)
    items *= init_std / num_factors**0.5
    for _ in range(epochs):
        users = solve_rows(seen, items, regularization, unobserved_weight)
        items = solve_rows(seen_by, users, regularization, unobserved_weight)
    return solve_rows(seen, items, regularization, unobserved_weight), items


def transposed(seen: SeenItems) -> tuple[SeenItems, Tensor]:
    """The users who have seen each item, and for each of these pairs its position in `seen.items`."""
    owner = torch.repeat_interleave(seen.counts())
    order = seen.items.long().argsort(stable=True)
    indptr = torch.zeros(seen.num_items + 1, dtype=torch.int64, device=owner.device)
    indptr[1:] = torch.bincount(seen.items.long(), minlength=seen.num_items).cumsum(0)
    return SeenItems.of_csr(indptr, owner[order], len(seen.counts())), order


def solve_rows(
    seen: SeenItems, factors: Tensor, regularization: float, unobserved_weight: float, weight: Tensor | None = None
) -> Tensor:
    """The factors [rows, d] of all rows of `seen` that fit the columns' factors [columns, d] best; `weight` [nnz].

    The ridge of a row is `regularization` times (its weights + unobserved_weight · the number of columns). In the basis
    of the eigenvectors of the columns' Gram matrix, all that does not depend on the row's cells is diagonal, D. A row
    with n cells, Y = √weight · their factors [n, d], then has one of two forms (Woodbury): a system of size d, or for
    n < d one of size n: (D + YᵀY)⁻¹ Yᵀ√weight = D⁻¹ Yᵀ (1 + Y D⁻¹ Yᵀ)⁻¹ √weight.
    """
    num_columns, size = factors.shape
    device, count = factors.device, seen.counts()
    values, basis = torch.linalg.eigh((factors.t() @ factors).double())
    everywhere = unobserved_weight * values.clamp(min=0).float()
    rotated = factors @ basis.float()
    weight = torch.ones(len(seen.items), device=device) if weight is None else weight
    total = torch.zeros(len(count), device=device).index_add_(0, torch.repeat_interleave(count), weight)
    ridge = regularization * (total + unobserved_weight * num_columns)
    solved = torch.zeros((len(count), size), device=device)

    def cells(row: Tensor, first: int, end: int) -> tuple[Tensor, Tensor]:
        """Y [B, n, d] and √weight [B, n] of the rows' cells first..end-1; a cell that a row lacks has the weight 0."""
        offset = torch.arange(first, end, device=device)
        present = offset < count[row].unsqueeze(1)
        position = torch.where(present, seen.indptr[row].unsqueeze(1) + offset, 0)
        root = torch.where(present, weight[position], 0.0).sqrt()
        return rotated[seen.items[position].long()].mul_(root.unsqueeze(2)), root

    # Rows are sorted by length, so that a block has few cells that are missing.
    order = torch.argsort(count, descending=True)
    order = order[: int((count > 0).sum())]
    part = max(1, SCORES_AT_ONCE // (4 * size))
    start = 0
    while start < len(order):
        longest = int(count[order[start]])
        row = order[start : start + max(1, part // max(longest, size))]
        start += len(row)
        diagonal = everywhere + ridge[row].unsqueeze(1)
        if longest < size:
            mine, root = cells(row, 0, longest)
            scaled = mine / diagonal.unsqueeze(1)
            left = torch.bmm(scaled, mine.transpose(1, 2))
            left.diagonal(dim1=1, dim2=2).add_(1.0)
            inner = torch.cholesky_solve(root.unsqueeze(2), torch.linalg.cholesky(left))
            solved[row] = torch.bmm(scaled.transpose(1, 2), inner).squeeze(2)
            continue
        left = torch.diag_embed(diagonal)
        right = torch.zeros((len(row), size, 1), device=device)
        for first in range(0, longest, part):
            mine, root = cells(row, first, min(longest, first + part))
            left.baddbmm_(mine.transpose(1, 2), mine)
            right.baddbmm_(mine.transpose(1, 2), root.unsqueeze(2))
        solved[row] = torch.cholesky_solve(right, torch.linalg.cholesky(left)).squeeze(2)
    return torch.matmul(solved, basis.t().float())
