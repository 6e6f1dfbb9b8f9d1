"""Splits: the interactions to train on and the held-out items (leave-one-out, arXiv 1708.05031)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.interactions import Columns, IdIndex, IntArray, Interactions
from ncf.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitOptions:
    """How a file of interactions is split: the same file with the same options has the same split.

    The latest `held_out` items of each user are held out; without timestamps `seed` chooses them. Before that, users
    and items with fewer interactions than the minima are left out. Raises InputError for a value out of bounds.
    """

    columns: Columns = field(default_factory=Columns)
    seed: int = 0
    held_out: int = 1
    min_user_interactions: int = 1
    min_item_interactions: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seed", 0, 2**63 - 1), ("held_out", 1, 10**6), ("min_user_interactions", 1, 10**9),
            ("min_item_interactions", 1, 10**9),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                bound = f"least {low}" if value < low else f"most {high}"
                raise InputError(f"{name} is {value}; it must be at {bound}")

    @property
    def minima(self) -> tuple[int, int]:
        """The least interactions of a user and of an item."""
        return self.min_user_interactions, self.min_item_interactions


@dataclass(frozen=True)
class HeldOut:
    """Held-out items, one in each row: `user_index`, `item_index` int [T]; `negatives` int [T, C] if the data has some.

    The last row of a user is the latest. A negative of -1 is padding and is ignored.
    """

    user_index: IntArray
    item_index: IntArray
    negatives: IntArray | None = None

    def __len__(self) -> int:
        return len(self.user_index)

    def reindex(self, user_of: IntArray, item_of: IntArray) -> HeldOut:
        """The same items in new indices `user_of[index]`, `item_of[index]`; a new index of -1 leaves a row out."""
        user, item = user_of[self.user_index], item_of[self.item_index]
        kept = (user >= 0) & (item >= 0)
        negatives = self.negatives
        if negatives is not None:
            negatives = np.where(negatives >= 0, item_of[negatives], -1)[kept]
        return HeldOut(user[kept], item[kept], negatives)


@dataclass(frozen=True)
class Split:
    """Training interactions and held-out items, in indices of the same users and items.

    `validation` are the items for the choice of the epoch, if the data brings its own; they are not in `train`.
    """

    train: Interactions
    held_out: HeldOut
    validation: HeldOut | None = None

    def reindex(self, users: IdIndex, items: IdIndex) -> Split:
        """The same split in the indices of other users and items; rows with unknown ids are left out."""
        if self.train.users.ids.equals(users.ids) and self.train.items.ids.equals(items.ids):
            return self
        user_of, item_of = users.encode(self.train.users.ids), items.encode(self.train.items.ids)
        user, item = user_of[self.train.user_index], item_of[self.train.item_index]
        known = (user >= 0) & (item >= 0)
        weight = self.train.weight
        train = Interactions(users, items, user[known], item[known], None if weight is None else weight[known])
        held_out = self.held_out.reindex(user_of, item_of)
        validation = None if self.validation is None else self.validation.reindex(user_of, item_of)
        left_out = int((~known).sum()) + len(self.held_out) - len(held_out)
        if self.validation is not None and validation is not None:
            left_out += len(self.validation) - len(validation)
        if left_out:
            log.warning("%d interactions with ids this run was not trained on are left out", left_out)
        return Split(train, held_out, validation)


def require_held_out(num: int) -> None:
    if num == 0:
        raise InputError("no user has two different items, so nothing can be held out; give more interactions")


def leave_one_out(interactions: Interactions, seed: int = 0, held_out: int = 1) -> Split:
    """Hold out the latest `held_out` items of each user; without timestamps `seed` chooses the items.

    At least one interaction of each user stays for training: a user with a single interaction has no held-out item.
    """
    user, item = interactions.user_index, interactions.item_index
    order_within = random_order(user, item, seed) if interactions.timestamp is None else interactions.timestamp
    # Rows with the same time are ordered by their place in the file.
    held, _ = latest_rows(user, (order_within, np.arange(len(user))), held_out)
    keep = np.ones(len(user), bool)
    keep[held] = False
    return Split(interactions.take(keep), HeldOut(user[held], item[held]))


def latest_rows(user_index: IntArray, keys: Sequence[npt.NDArray[Any]], num: int) -> tuple[IntArray, IntArray]:
    """For each user the last `num` rows in the order of the keys [N], and the row before those.

    The rows of a user are returned in their order. The first row of a user is never among them: it is trained on.
    """
    table = pl.DataFrame({"user": user_index, **{str(number): key for number, key in enumerate(keys)}})
    order = table.select(pl.arg_sort_by(table.columns)).to_series().to_numpy()  # 2 to 4 times as fast as np.lexsort
    user = user_index[order]
    place = np.arange(len(user))
    first = np.flatnonzero(np.append(True, user[1:] != user[:-1])[: len(user)])
    counts = np.diff(np.append(first, len(user)))
    later = np.repeat(first + counts, counts) - 1 - place
    not_first = place > np.repeat(first, counts)
    return order[(later < num) & not_first], order[(later == num) & not_first]


def random_order(user_index: IntArray, item_index: IntArray, seed: int) -> npt.NDArray[np.uint64]:
    """A pseudo-random number for each pair [N]: a function of pair and seed only, and different for different pairs.

    So the choice of a held-out item does not depend on the order of the rows, nor on rows of other pairs of the same
    ids. It is the finaliser of SplitMix64 (Steele et al. 2014), which is a bijection.
    """
    value = (user_index.astype(np.uint64) << np.uint64(32)) + item_index.astype(np.uint64)
    value += np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value ^= value >> np.uint64(shift)
        value *= np.uint64(factor)
    return value ^ (value >> np.uint64(31))
