"""What the top 10 of all users are like, whoever is right: coverage, Gini, novelty and diversity.

`top` int64 [U, K] holds the items of each user's list, -1 stands for no item; docs/metrics.md has formulas and sources.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ncf.models.neural import NCF, SCORES_AT_ONCE


def exposure(top: Tensor, num_items: int) -> Tensor:
    """In how many lists each item is, int64 [num_items]."""
    return torch.bincount(top[top >= 0], minlength=num_items)


def coverage(top: Tensor, num_items: int) -> float:
    """The share of all items that are in any list."""
    return (exposure(top, num_items) > 0).double().mean().item()


def gini(top: Tensor, num_items: int) -> float:
    """How unequally the places of the lists are divided among all items: 0 is equally, towards 1 is to very few."""
    count = exposure(top, num_items).double().sort().values
    if count.sum() == 0.0:
        return 0.0
    weight = 2.0 * torch.arange(1, num_items + 1, dtype=torch.float64) - num_items - 1.0
    return ((weight * count).sum() / (num_items * count.sum())).item()


def novelty(top: Tensor, popularity: Tensor, num_users: int) -> Tensor:
    """The mean of -log2(share of the users who have an item) over each list, in bits, float64 [U].

    `popularity` int64 [num_items] are numbers of users; an item that nobody has counts as if one had it.
    """
    bits = torch.log2(torch.tensor(float(max(1, num_users)), dtype=torch.float64) / popularity.clamp(min=1))
    listed = top >= 0
    return torch.where(listed, bits[top.clamp(min=0)], 0.0).sum(1) / listed.sum(1).clamp(min=1)


def diversity(top: Tensor, vectors: Tensor) -> Tensor:
    """One minus the mean cosine of the vectors [num_items, d] of two items of a list, float64 [U].

    The cosines of all pairs of a list are in the square of the sum of its unit vectors, so K vectors are added and K²
    products are not formed. A list of one item has 0.
    """
    unit, length = normalize(vectors), top.shape[1]
    parts = []
    for part in torch.split(top, max(1, SCORES_AT_ONCE // (length * vectors.shape[1]))):
        listed = (part >= 0).to(unit.dtype)
        vector = unit[part.clamp(min=0)] * listed.unsqueeze(2)
        own, num = vector.double().square().sum((1, 2)), listed.double().sum(1)
        cosines = vector.sum(1).double().square().sum(1) - own
        pairs = num * (num - 1.0)
        parts.append(torch.where(pairs > 0, 1.0 - cosines / pairs.clamp(min=1.0), 0.0))
    return torch.cat(parts)


def item_vectors(model: NCF) -> Tensor:
    """A vector of each item [num_items, d]: what `Catalogue.likeness` multiplies to find similar items."""
    return torch.cat([part.items() for part in model.catalogue().parts], dim=1)  # type: ignore[operator]
