"""Make one GMF of several models: blend their scores, and factorise the blend.

Each model's scores for a user are scaled to mean 0 and deviation 1 over all items, so that models of different scales
can be added. The mean of the blend over users becomes the item bias. A randomised singular value decomposition U s Vᵀ
of the rest (Halko, Martinsson and Tropp 2011, arXiv 0909.4061) gives the factors: p = U √s, q = V √s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from ncf.models.neural import NCF, SCORES_AT_ONCE, build_model

Scores = Callable[[Tensor], Tensor]

OVERSAMPLING, ITERATIONS = 16, 2  # of the randomised decomposition
KEPT_FLOATS = 2**28  # a blend of up to 1 GB is kept in memory, a larger one is computed again in each pass


class Products(Protocol):
    """A matrix that is known by its products; `shape` is (users, items)."""

    shape: tuple[int, int]
    device: torch.device

    def times(self, matrix: Tensor) -> Tensor: ...

    def transposed_times(self, matrix: Tensor) -> Tensor: ...


class Blend:
    """Weighted sum of models' scores, standardised for each user; iterating gives its rows in blocks of users."""

    def __init__(self, parts: list[tuple[float, Scores]], num_users: int, num_items: int, device: torch.device) -> None:
        self.parts = parts
        self.shape, self.device = (num_users, num_items), device
        self.users = torch.split(torch.arange(num_users, device=device), max(1, SCORES_AT_ONCE // num_items))
        self.kept: list[Tensor] = []
        self.mean = torch.zeros(num_items, device=device)
        self.mean = sum((rows.sum(0) for rows in self), self.mean) / num_users
        if num_users * num_items <= KEPT_FLOATS:
            self.kept = list(self)

    def __iter__(self) -> Iterator[Tensor]:
        """The rows [B, num_items] of blocks of users, minus the mean over all users."""
        if self.kept:
            yield from self.kept
            return
        for users in self.users:
            rows = torch.zeros((len(users), self.shape[1]), device=users.device)
            for weight, scores in self.parts:
                rows.add_(standardise(scores(users)), alpha=weight)
            yield rows.sub_(self.mean)

    def times(self, matrix: Tensor) -> Tensor:
        """The product [num_users, D] with a matrix [num_items, D]."""
        return torch.cat([rows @ matrix for rows in self])

    def transposed_times(self, matrix: Tensor) -> Tensor:
        """The product [num_items, D] of the transpose with a matrix [num_users, D]."""
        parts = torch.split(matrix, [len(users) for users in self.users])
        products = (rows.t() @ part for rows, part in zip(self, parts, strict=True))
        return sum(products, torch.zeros((self.shape[1], matrix.shape[1]), device=matrix.device))


def standardise(scores: Tensor) -> Tensor:
    """Scores [B, I] with mean 0 and deviation 1 in each row; a row of equal scores becomes 0."""
    deviation, mean = torch.std_mean(scores.float(), dim=1, keepdim=True, correction=0)
    return (scores.float() - mean) / deviation.clamp(min=1e-12)


@torch.no_grad()
def fold(blend: Blend, num_factors: int, scale: float, offset: float, seed: int) -> NCF:
    """The GMF with `num_factors` that approximates the blend best; its scores are `scale` · blend + `offset`."""
    users, rest = factorise(blend, min(num_factors, *blend.shape), seed)
    model = build_model("gmf", *blend.shape, num_factors).to(users.device)
    gmf = model.branches[0]
    for table, factors in ((gmf.user_embedding, users), (gmf.item_embedding, rest)):
        weight: Tensor = table.weight  # type: ignore[assignment,union-attr]
        weight.zero_()
        weight[:, : factors.shape[1]] = factors * scale**0.5
    model.predict.weight.fill_(1.0)
    model.predict.bias.fill_(offset)
    model.item_bias.weight[:, 0] = blend.mean * scale
    return model.eval()


def factorise(matrix: Products, rank: int, seed: int, iterations: int = ITERATIONS) -> tuple[Tensor, Tensor]:
    """Factors [num_users, rank] and [num_items, rank] whose product approximates a matrix; more iterations, better."""
    width = min(rank + OVERSAMPLING, *matrix.shape)
    start = torch.randn((matrix.shape[1], width), generator=torch.Generator().manual_seed(seed)).to(matrix.device)
    basis = torch.linalg.qr(matrix.times(start))[0]
    for _ in range(iterations):
        basis = torch.linalg.qr(matrix.times(torch.linalg.qr(matrix.transposed_times(basis))[0]))[0]
    items, singular, small = torch.linalg.svd(matrix.transposed_times(basis), full_matrices=False)
    root = singular[:rank].sqrt()
    return basis @ small[:rank].t() * root, items[:, :rank] * root


@torch.no_grad()
def usual_scale(models: list[Scores], num_users: int, device: torch.device) -> tuple[float, float]:
    """Deviation over items and mean of the models' scores, for at most 1,024 users; the folded model gets the same."""
    users = torch.arange(num_users, device=device)[:: -(-num_users // 1024)]
    spread = [torch.std_mean(model(users).float(), dim=1, correction=0) for model in models]
    deviation, mean = (torch.stack([each[number].mean() for each in spread]).mean() for number in (0, 1))
    return float(deviation), float(mean)
