"""The ideal low-pass filter of GF-CF (Shen et al. 2021, arXiv 2108.07567), which is a GMF without any training.

The matrix X of the weights of seen items (1 by default) is normalised by their sums over users and over items:
D_u^-½ X D_i^-½. With V its first d right singular vectors, the scores of a user are X_u D_i^-½ V Vᵀ D_i^½.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ncf.models.blend import factorise
from ncf.models.least_squares import transposed
from ncf.models.seen import SeenItems

ITERATIONS = 4  # with 2 the last factors of Gowalla are still wrong: Recall@20 .166 instead of .173 (docs/log.md)


class Normalised:
    """The normalised matrix, for `factorise`; `weight` [nnz] and its cells are in the order of `seen.items`."""

    def __init__(self, seen: SeenItems, weight: Tensor | None) -> None:
        self.seen, (self.seen_by, order) = seen, transposed(seen)
        self.shape, self.device = (len(seen.counts()), seen.num_items), seen.items.device
        user, item = torch.repeat_interleave(seen.counts()), seen.items.long()
        weight = torch.ones(len(item), device=self.device) if weight is None else weight
        # √D of users and of items
        self.roots = [
            torch.zeros(size, device=self.device).index_add_(0, index, weight).sqrt_()
            for size, index in zip(self.shape, (user, item), strict=True)
        ]
        self.cells = weight / (self.roots[0][user] * self.roots[1][item])
        self.cells_by = self.cells[order]

    def times(self, matrix: Tensor) -> Tensor:
        """The product [num_users, D] with a matrix [num_items, D]."""
        return _product(self.seen, self.cells, matrix)

    def transposed_times(self, matrix: Tensor) -> Tensor:
        """The product [num_items, D] of the transpose with a matrix [num_users, D]."""
        return _product(self.seen_by, self.cells_by, matrix)


def _product(rows: SeenItems, weight: Tensor, matrix: Tensor) -> Tensor:
    # Of a matrix that lies by columns, as those of `qr`, the sums take ten times as long.
    return embedding_bag(
        rows.items.long(), matrix.contiguous(), rows.indptr[:-1], mode="sum", per_sample_weights=weight
    )


def spectral(
    seen: SeenItems, num_factors: int, weight: Tensor | None = None, seed: int = 0
) -> tuple[Tensor, Tensor, float]:
    """Factors of users [num_users, d] and items [num_items, d] with the scores of the filter; without interactions: 0.

    d is `num_factors`, or the number of users or of items if that is less. Third comes the share of the normalised
    matrix's squares that the d singular vectors leave out, 0 to 1.
    """
    normalised = Normalised(seen, weight)
    users, items = factorise(normalised, min(num_factors, *normalised.shape), seed, ITERATIONS)
    kept = users.square().sum(0) * items.square().sum(0)  # the squares of the singular values
    lost = max(0.0, 1.0 - float(kept.sum() / normalised.cells.square().sum()))
    users, items = (factors * root.unsqueeze(1) for factors, root in zip((users, items), normalised.roots, strict=True))
    return users, items, lost
