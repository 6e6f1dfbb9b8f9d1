"""The ideal low-pass filter of GF-CF (Shen et al. 2021, arXiv 2108.07567), which is a GMF without any training.

The matrix X of seen items is normalised by the numbers of interactions of users and of items: D_u^-½ X D_i^-½. With V its
first d right singular vectors, the scores of a user are X_u D_i^-½ V Vᵀ D_i^½.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ncf.models.blend import factorise
from ncf.models.least_squares import transposed
from ncf.models.seen import SeenItems


class Normalised:
    """The normalised matrix, for `factorise`; `weight` [nnz] are its cells, in the order of `seen.items`."""

    def __init__(self, seen: SeenItems) -> None:
        self.seen, (self.seen_by, order) = seen, transposed(seen)
        self.shape, self.device = (len(seen.counts()), seen.num_items), seen.items.device
        of_user, of_item = (each.counts().clamp(min=1).float().rsqrt() for each in (seen, self.seen_by))
        self.weight = torch.repeat_interleave(of_user, seen.counts()) * of_item[seen.items.long()]
        self.weight_by = self.weight[order]

    def times(self, matrix: Tensor) -> Tensor:
        """The product [num_users, D] with a matrix [num_items, D]."""
        return _product(self.seen, self.weight, matrix)

    def transposed_times(self, matrix: Tensor) -> Tensor:
        """The product [num_items, D] of the transpose with a matrix [num_users, D]."""
        return _product(self.seen_by, self.weight_by, matrix)


def _product(rows: SeenItems, weight: Tensor, matrix: Tensor) -> Tensor:
    return embedding_bag(rows.items.long(), matrix, rows.indptr[:-1], mode="sum", per_sample_weights=weight)


def spectral(seen: SeenItems, num_factors: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Factors of users [num_users, d] and items [num_items, d] with the scores of the filter; without interactions: 0.

    d is `num_factors`, or the number of users or of items if that is less.
    """
    of = Normalised(seen)
    users, items = factorise(of, min(num_factors, *of.shape), seed)
    return users * seen.counts().sqrt().unsqueeze(1), items * of.seen_by.counts().sqrt().unsqueeze(1)
