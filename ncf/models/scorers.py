"""Scorers beside the neural models: popularity, item-item matrices and products of factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ncf.models.closed_form import scores
from ncf.models.seen import SeenItems


class Scorer(Protocol):
    """Anything that can be evaluated: it scores pairs (indices broadcast), and users [B] against all items.

    A table of scores against all items belongs to the caller, who may write into it.
    """

    def __call__(self, user_index: Tensor, item_index: Tensor) -> Tensor: ...

    def catalogue(self) -> Callable[[Tensor], Tensor]: ...


class Popularity:
    """The same scores for every user: an item's number of interactions, `counts` [num_items]."""

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts.float()

    def __call__(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        return self.counts[item_index]

    def catalogue(self) -> Callable[[Tensor], Tensor]:
        return lambda user_index: self.counts.repeat(len(user_index), 1)


class ItemItem:
    """Scores by an item-item matrix [num_items, num_items], such as EASE's."""

    def __init__(self, seen: SeenItems, matrix: Tensor) -> None:
        self.seen, self.matrix = seen, matrix

    def __call__(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        user, row = torch.unique(user_index, return_inverse=True)
        return self.catalogue()(user)[row, item_index]

    def catalogue(self) -> Callable[[Tensor], Tensor]:
        return lambda user_index: scores(self.seen, user_index, self.matrix)


class Factors:
    """Products of factors of users [num_users, d] and items [num_items, d], such as iALS's."""

    def __init__(self, users: Tensor, items: Tensor) -> None:
        self.users, self.items = users, items

    def __call__(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        return (self.users[user_index] * self.items[item_index]).sum(-1)

    def catalogue(self) -> Callable[[Tensor], Tensor]:
        return lambda user_index: self.users[user_index] @ self.items.t()
