"""Negatives drawn by the popularity of items: for training, and for the evaluation among sampled negatives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ncf.data.splits import Split
from ncf.errors import InputError
from ncf.models.seen import SeenItems, known_items, pairs, seen_positions

# Training draws an item in proportion to its number of interactions to this power, as word2vec draws words
# (arXiv 1310.4546, section 2.2); the evaluation to the power of 1, as BERT4Rec does (arXiv 1904.06690, section 4.2).
POWER = 0.75
TOTAL = 2**40  # sum of the whole-number weights of all items; smaller for so many users that keys would overflow
CELLS_AT_ONCE = 2**24  # users x items whose random keys are made at a time: 64 MB


@dataclass(frozen=True)
class PopularItems:
    """Draws from the items that a user has not seen, in proportion to a weight of each item.

    The weights are whole numbers, so that no rounding makes a seen item possible. Laid end to end, item i has
    ends[i]..ends[i+1]. `ends` int64 [num_items + 1]; `before` int64 [nnz + 1] are the sums of the weights of the seen
    items of all users before each; `keys` int64 [nnz] are user * (ends[-1] + 1) + the unseen weight of the user before
    each seen item, which ascend.
    """

    seen: SeenItems
    ends: Tensor
    before: Tensor
    keys: Tensor

    @classmethod
    def of(cls, seen: SeenItems, counts: Tensor, power: float = POWER) -> PopularItems:
        """Weights by the numbers of interactions `counts` [num_items]; an item without any is never drawn."""
        num_users = len(seen.indptr) - 1
        share = counts.double().pow(power).where(counts > 0, 0.0)
        total = min(TOTAL, 2**61 // (num_users + 1))
        weight = (share * (total / share.sum())).round().long().clamp(min=1).where(counts > 0, 0)
        zero = weight.new_zeros(1)
        ends = torch.cat([zero, weight.cumsum(0)])
        items = seen.items.long()
        before = torch.cat([zero, weight[items].cumsum(0)])
        user = torch.repeat_interleave(seen.counts())
        keys = user * (ends[-1] + 1) + ends[items] - (before[:-1] - before[seen.indptr[user]])
        return cls(seen, ends, before, keys)

    def draw_unseen(self, user_index: Tensor, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Items [N, num] that users [N] have not seen, by weight, and a mask [N] of users who have such items.

        A point is drawn in the unseen weight of the user. The seen items before it are found by one binary search, as
        in `SeenItems.draw_unseen`; their weights are added, and the item that then holds the point is the negative.
        """
        user, order = user_index.long().sort(stable=True)
        first = self.seen.indptr[user]
        base = self.before[first]
        unseen = self.ends[-1] - (self.before[self.seen.indptr[user + 1]] - base)
        drawn = torch.randint(2**62, (len(user), num), generator=generator, device=user.device)
        point = drawn[order].remainder_(unseen.clamp(min=1).unsqueeze(1))
        passed = torch.searchsorted(self.keys, point + (user * (self.ends[-1] + 1)).unsqueeze(1), right=True)
        point += self.before[passed] - base.unsqueeze(1)
        item = torch.searchsorted(self.ends, point, right=True).sub_(1).clamp_(max=self.seen.num_items - 1)
        some = unseen > 0
        return torch.empty_like(item).index_copy_(0, order, item), torch.empty_like(some).index_copy_(0, order, some)


def draw_distinct_popular(
    seen: SeenItems, counts: Tensor, user_index: Tensor, num: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Different items [N, num] that users [N] have not seen, one after the other in proportion to `counts` [num_items]
    among those that are left, and a mask [N, num] of the drawn ones.

    The items with the smallest Exp(1)/count are such a draw (Efraimidis and Spirakis 2006). An item without
    interactions is never drawn; a user with fewer than `num` others has all of them. The work is users x items, as of
    the ranking of the full catalogue.
    """
    num = min(num, seen.num_items)
    parts = []
    for user in torch.split(user_index.long(), max(1, CELLS_AT_ONCE // seen.num_items)):
        key = torch.empty((len(user), seen.num_items), device=user.device).exponential_(generator=generator)
        key /= counts.float()
        row, position = seen_positions(seen.indptr, user)
        key[row, seen.items[position].long()] = torch.inf
        parts.append(key.topk(num, dim=1, largest=False))
    none = user_index.new_empty((0, num))
    item = torch.cat([none, *(part.indices for part in parts)])
    return item, torch.cat([none.bool(), *(part.values < torch.inf for part in parts)])


def with_popular_negatives(split: Split, num: int, device: torch.device, seed: int) -> Split:
    """The split whose held-out rows have `num` negatives each by popularity, never of seen or held-out items.

    Raises InputError if the data have negatives of their own.
    """
    held_out = split.held_out
    if held_out.negatives is not None:
        raise InputError("negatives_among is popular, and the data have negatives of their own; leave it out")
    user, item = pairs(held_out, device)
    counts = torch.as_tensor(split.train.popularity(), device=device)
    known = known_items(split, device).including(user, item)
    generator = torch.Generator(device).manual_seed(seed)
    negatives, drawn = draw_distinct_popular(known, counts, user, num, generator)
    return replace(split, held_out=replace(held_out, negatives=negatives.where(drawn, -1).cpu().numpy()))
