"""Negatives: items a user has not seen, drawn uniformly and without rejection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ncf.interactions import IntArray

NUM_EVALUATION_NEGATIVES = 99


def seen_positions(indptr: Tensor, user_index: Tensor) -> tuple[Tensor, Tensor]:
    """For users [B]: the row in 0..B-1 of each item they have seen, and the item's position in the CSR's `items`."""
    first = indptr[user_index]
    count = indptr[user_index + 1] - first
    row = torch.repeat_interleave(count)
    offset = torch.arange(row.size(0), device=row.device) - (count.cumsum(0) - count)[row]
    return row, first[row] + offset


@dataclass(frozen=True)
class SeenItems:
    """Items each user has seen, as CSR: user u has `items[indptr[u]:indptr[u+1]]`, ascending.

    `indptr` int64 [num_users + 1], `items` int64 [nnz], `rank_keys` int64 [nnz] (see `draw_unseen`).
    """

    num_items: int
    indptr: Tensor
    items: Tensor
    rank_keys: Tensor

    @classmethod
    def of(
        cls,
        user_index: IntArray | Tensor,
        item_index: IntArray | Tensor,
        num_users: int,
        num_items: int,
        device: torch.device | str = "cpu",
    ) -> SeenItems:
        user, item = (torch.as_tensor(index, device=device) for index in (user_index, item_index))
        key = torch.unique(user * num_items + item)  # sorted: by user, then by item
        user, items = key // num_items, key % num_items
        indptr = torch.zeros(num_users + 1, dtype=torch.int64, device=device)
        indptr[1:] = torch.bincount(user, minlength=num_users).cumsum(0)
        rank = torch.arange(len(items), device=device) - indptr[user]
        return cls(num_items, indptr, items, user * (num_items + 1) + items - rank)

    def counts(self) -> Tensor:
        """Seen items a user, int64 [num_users]."""
        return self.indptr[1:] - self.indptr[:-1]

    def draw_unseen(self, user_index: Tensor, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Items [N, num] that users [N] have not seen, uniform with replacement, and a mask [N] of who has any.

        The r-th unseen item of a user is r plus the number of seen items before it. With seen items s_0 < s_1 < …
        that number is the count of k with s_k - k <= r, so one binary search in the sorted keys u·(I+1) + s_k - k
        answers every draw of every user at once: exact, no rejection loop, no table of users × items.
        """
        unseen = self.num_items - self.counts()[user_index]
        drawn = torch.randint(2**62, (len(user_index), num), generator=generator, device=user_index.device)
        rank = drawn % unseen.clamp(min=1).unsqueeze(1)
        key = user_index.unsqueeze(1) * (self.num_items + 1) + rank
        before = torch.searchsorted(self.rank_keys, key, right=True) - self.indptr[user_index].unsqueeze(1)
        return (rank + before).clamp(max=self.num_items - 1), unseen > 0
