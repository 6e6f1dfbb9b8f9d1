"""The items that each user has seen, and random draws from the items that a user has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ncf.data.interactions import IntArray, Interactions
from ncf.data.splits import HeldOut, Split

USERS_AT_ONCE = 2**15  # users processed at a time, to bound the memory for temporary arrays
MANY = 3  # a user with so many times the wanted number of unseen items has many: few of the draws are repeated
ROWS_AT_ONCE = 2**13  # users with few unseen items whose random permutations are made at a time: tens of megabytes


def seen_positions(indptr: Tensor, user_index: Tensor) -> tuple[Tensor, Tensor]:
    """For each item that users [B] have seen: the row 0..B-1 of its user, and its position in `items` of the CSR."""
    first = indptr[user_index]
    count = indptr[user_index + 1] - first
    row = torch.repeat_interleave(count)
    offset = torch.arange(row.size(0), device=row.device) - (count.cumsum(0) - count)[row]
    return row, first[row] + offset


@dataclass(frozen=True)
class SeenItems:
    """The items that each user has seen, as CSR: those of user u are `items[indptr[u]:indptr[u+1]]`, ascending.

    `indptr` int64 [num_users + 1], `items` int64 or int32 [nnz], `rank_keys` int64 [nnz] (see `draw_unseen`).
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
        """Build from pairs in any order; a repeated pair counts once."""
        user, item = (torch.as_tensor(index, device=device) for index in (user_index, item_index))
        key = torch.unique(user.long() * num_items + item)  # sorted: by user, then by item
        user, items = key // num_items, key % num_items
        indptr = torch.zeros(num_users + 1, dtype=torch.int64, device=device)
        indptr[1:] = torch.bincount(user, minlength=num_users).cumsum(0)
        return cls.of_csr(indptr, items, num_items)

    @classmethod
    def of_interactions(cls, data: Interactions, device: torch.device | str = "cpu") -> SeenItems:
        """Build from the pairs of `data`; sorted pairs are not sorted again, and on a CPU not copied."""
        if data.indptr is None:
            return cls.of(data.user_index, data.item_index, data.num_users, data.num_items, device)
        indptr, items = (torch.as_tensor(index, device=device) for index in (data.indptr, data.item_index))
        return cls.of_csr(indptr.long(), items, data.num_items)

    @classmethod
    def of_csr(cls, indptr: Tensor, items: Tensor, num_items: int) -> SeenItems:
        """Build from sorted and distinct rows; only `rank_keys`, eight bytes for each pair, are allocated."""
        base = torch.arange(len(indptr) - 1, device=indptr.device) * (num_items + 1) + indptr[:-1]
        rank_keys = torch.empty(len(items), dtype=torch.int64, device=items.device)
        for user in range(0, len(base), USERS_AT_ONCE):
            ends = indptr[user : user + USERS_AT_ONCE + 1]
            first, last = int(ends[0]), int(ends[-1])
            part = rank_keys[first:last]
            of_user = base[user : user + USERS_AT_ONCE]
            torch.sub(items[first:last], torch.arange(first, last, device=items.device), out=part)
            part += torch.repeat_interleave(of_user, ends.diff(), output_size=last - first)
        return cls(num_items, indptr, items, rank_keys)

    def including(self, user_index: IntArray | Tensor, item_index: IntArray | Tensor) -> SeenItems:
        """These and further pairs [T] in any order; the pairs that are here are merged without sorting them again."""
        device = self.items.device
        user, item = (torch.as_tensor(index, device=device) for index in (user_index, item_index))
        key = torch.unique(user.long() * self.num_items + item)
        user, item = key // self.num_items, (key % self.num_items).to(self.items.dtype)
        place, known = self._find(user, item)
        user, item, place = user[~known], item[~known], place[~known]
        place += torch.arange(len(place), device=device)  # each inserted item moves the later ones by one place
        items = self.items.new_empty(len(self.items) + len(item))
        old = torch.ones(len(items), dtype=torch.bool, device=device)
        old[place] = False
        items[place] = item
        items.masked_scatter_(old, self.items)
        indptr = self.indptr.clone()
        indptr[1:] += torch.bincount(user, minlength=len(indptr) - 1).cumsum(0)
        return self.of_csr(indptr, items, self.num_items)

    def _find(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """The place in `items` where pairs [T] are or belong, and whether they are there (by binary search)."""
        low, high = self.indptr[user], self.indptr[user + 1]
        if len(self.items) == 0:
            return low, torch.zeros_like(low, dtype=torch.bool)
        end, last = high, len(self.items) - 1
        while bool((low < high).any()):
            middle = (low + high) // 2
            below = (self.items[middle.clamp(max=last)] < item) & (low < high)
            low, high = torch.where(below, middle + 1, low), torch.where(below, high, torch.minimum(middle, high))
        return low, (low < end) & (self.items[low.clamp(max=last)] == item)

    def counts(self) -> Tensor:
        """The number of items that each user has seen, int64 [num_users]."""
        return self.indptr[1:] - self.indptr[:-1]

    def draw_unseen(self, user_index: Tensor, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Items [N, num] that users [N] have not seen, uniform with replacement, and a mask [N] of users with any.

        The memory grows with N · num, so the draws of an epoch are made in parts.
        """
        user, order = user_index.long().sort(stable=True)
        unseen = self._unseen(user)
        drawn = torch.randint(2**62, (len(user), num), generator=generator, device=user.device)
        rank = drawn[order].remainder_(unseen.clamp(min=1).unsqueeze(1))
        item, some = self._unseen_item(user, rank), unseen > 0
        return torch.empty_like(item).index_copy_(0, order, item), torch.empty_like(some).index_copy_(0, order, some)

    def draw_distinct(self, user_index: Tensor, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Different items [N, num] that users [N] have not seen, uniform, and a mask [N, num] of the drawn ones.

        A user with fewer than `num` unseen items has all of them. Ranks among few unseen items are the beginning of a
        random permutation. Among many, a repeated rank is drawn again, in each round with a probability below 1/MANY.
        """
        user, order = user_index.long().sort(stable=True)
        unseen, place = self._unseen(user), torch.arange(MANY * num, device=user.device)
        drawn = torch.randint(2**62, (len(user), num), generator=generator, device=user.device)
        rank = drawn[order].remainder_(unseen.clamp(min=1).unsqueeze(1))
        few = unseen < MANY * num
        for rows in torch.split(few.nonzero().flatten(), ROWS_AT_ONCE):
            key = torch.rand((len(rows), MANY * num), generator=generator, dtype=torch.float64, device=user.device)
            key.masked_fill_(place >= unseen[rows].unsqueeze(1), 2.0)
            rank[rows] = key.argsort(dim=1)[:, :num]
        rows = (~few).nonzero().flatten()
        while len(rows):
            part = rank[rows].sort(dim=1).values
            row, column = (part[:, 1:] == part[:, :-1]).nonzero(as_tuple=True)
            part[row, column] = torch.randint(2**62, row.shape, generator=generator, device=user.device).remainder_(
                unseen[rows[row]]
            )
            rank[rows] = part
            rows = rows[torch.unique(row)]
        item, some = self._unseen_item(user, rank), place[:num] < unseen.unsqueeze(1)
        return torch.empty_like(item).index_copy_(0, order, item), torch.empty_like(some).index_copy_(0, order, some)

    def _unseen(self, user: Tensor) -> Tensor:
        """The number of items that users [N] have not seen, int64 [N]."""
        return self.num_items - (self.indptr[user + 1] - self.indptr[user])

    def _unseen_item(self, user: Tensor, rank: Tensor) -> Tensor:
        """The unseen items of the ranks [N, num], for users [N] in ascending order; a rank out of bounds has any item.

        The r-th unseen item of a user is r plus the number of seen items before it. With seen items s_0 < s_1 < …
        that number is the count of k with s_k - k <= r. So one binary search in the sorted keys u·(I+1) + s_k - k
        answers all draws of all users, without a rejection loop and without a table of users × items. Sorted by user,
        neighbouring searches share the cache: three times as fast among 100 million keys.
        """
        key = rank + (user * (self.num_items + 1)).unsqueeze(1)
        item = torch.searchsorted(self.rank_keys, key, right=True)
        return item.sub_(self.indptr[user].unsqueeze(1)).add_(rank).clamp_(max=self.num_items - 1)


def pairs(held_out: HeldOut, device: torch.device) -> tuple[Tensor, Tensor]:
    """The users and the items of held-out rows, int64 [T] each."""
    user, item = (torch.as_tensor(index, device=device) for index in (held_out.user_index, held_out.item_index))
    return user.long(), item.long()


def known_items(split: Split, device: torch.device) -> SeenItems:
    """The items that are no candidates in an evaluation: those in training, and the validation if the data has one."""
    seen = SeenItems.of_interactions(split.train, device)
    return seen if split.validation is None else seen.including(*pairs(split.validation, device))
