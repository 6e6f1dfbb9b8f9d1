"""Metrics of whole lists: all held-out items of a user in one list, and each metric a mean over users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ncf.evaluation.metrics import CURVE_KS, Values, share_behind
from ncf.evaluation.ranking import Ranks

LIST_KS = (10, 20)


@dataclass(frozen=True)
class Lists:
    """Held-out items at their places in the lists of their users: `user_index`, `place` (0 is first) int64 [T].

    A list holds all items that the user has not seen, the held-out ones included. `behind` float64 [T] is the share of
    the items that are not held out which an item leaves behind.
    """

    user_index: Tensor
    place: Tensor
    behind: Tensor

    @classmethod
    def of(cls, ranks: Ranks) -> Lists:
        """From the ranks among the full catalogue, which leave the user's other held-out items out.

        Sorted by rank, the j-th held-out item of a user (from 0) has j held-out items before it, beside the rank's
        items. So the places need no second pass over the catalogue, and a tie with an item that is not held out counts
        against the model here, too.
        """
        number = torch.unique(ranks.user_index, return_inverse=True)[1]
        behind = share_behind(ranks.rank, ranks.rivals)
        return cls(ranks.user_index, ranks.rank + order_within(number, ranks.rank), behind)

    def rows(self, inside: Tensor) -> Lists:
        """The lists of which only these held-out items (bool [T]) are relevant; their places are the same."""
        return Lists(self.user_index[inside], self.place[inside], self.behind[inside])

    @cached_property
    def _number(self) -> tuple[Tensor, Tensor]:
        users, number = torch.unique(self.user_index, return_inverse=True)
        return users, number

    @property
    def users(self) -> Tensor:
        """The user of each value, int64 [U], ascending."""
        return self._number[0]

    @cached_property
    def _relevant(self) -> Tensor:
        """The number of relevant items of each user, float64 [U]."""
        return self._sum(torch.ones_like(self.behind))

    @cached_property
    def _earlier(self) -> Tensor:
        """The number of relevant items before each one, int64 [T]."""
        return order_within(self._number[1], self.place)

    def _sum(self, value: Tensor) -> Tensor:
        return value.new_zeros(len(self.users)).index_add_(0, self._number[1], value)

    def at(self, k: int) -> Values:
        """Recall, NDCG, Precision, MAP and HR of the first k of each list, float64 [U] each."""
        hit = (self.place < k).double()
        found, most = self._sum(hit), self._relevant.clamp(max=k)
        ideal = (1.0 / torch.log2(torch.arange(k, dtype=torch.float64) + 2.0)).cumsum(0)
        gain = self._sum(hit / torch.log2(self.place.double() + 2.0))
        precision = self._sum(hit * (self._earlier + 1) / (self.place + 1))
        return {
            "Recall": found / self._relevant,
            "NDCG": gain / ideal[most.long() - 1],
            "Precision": found / k,
            "MAP": precision / most,
            "HR": found.clamp(max=1.0),
        }

    def values(self) -> Values:
        """Every metric of each user, float64 [U]."""
        cut = {f"{name}@{k}": value for k in LIST_KS for name, value in self.at(k).items()}
        first = self._sum((self._earlier == 0) / (self.place + 1.0).double())
        return {**cut, "MRR": first, "AUC": self._sum(self.behind) / self._relevant}

    def curves(self) -> dict[str, dict[str, float]]:
        """`{metric: {K: mean over users}}` at every K of `CURVE_KS`."""
        at = {str(k): self.at(k) for k in CURVE_KS}
        return {name: {k: values[name].mean().item() for k, values in at.items()} for name in next(iter(at.values()))}


def order_within(group: Tensor, key: Tensor) -> Tensor:
    """The place of each row [T] among the rows of its `group` (0..G-1, [T]) sorted by `key` [T], int64 [T]."""
    order = torch.argsort(key, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    counts = torch.bincount(group)
    first = counts.cumsum(0) - counts
    place = torch.empty_like(group)
    place[order] = torch.arange(len(group)) - first[group[order]]
    return place
