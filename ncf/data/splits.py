"""Splits: the interactions to train on and the held-out items, and the options that say how data are split."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ncf.data.interactions import IdIndex, IntArray, Interactions, joined
from ncf.data.k_core import k_core
from ncf.errors import InputError
from ncf.files.reading import Columns, Reading

log = logging.getLogger(__name__)


SPLITS = ("leave-one-out", "ratio", "time")
TEST_SHARE = 0.2


@dataclass(frozen=True)
class SplitOptions:
    """How a file of interactions is split: the same file with the same options has the same split.

    `split` is one of SPLITS, which ncf/data/protocols.py defines: leave-one-out holds out the latest `held_out` items
    of each user, ratio the latest `test_share` of each user's items, time the latest `test_share` of all interactions;
    a share of None is TEST_SHARE. `test` is a file or folder that holds the held-out interactions instead. Without
    timestamps `seed` chooses. Users and items with fewer interactions than the minima are left out before. Raises
    InputError for a value out of bounds, and for options that contradict each other.
    """

    columns: Columns = field(default_factory=Columns)
    reading: Reading = field(default_factory=Reading)
    seed: int = 0
    held_out: int = 1
    min_user_interactions: int = 1
    min_item_interactions: int = 1
    split: str = SPLITS[0]
    test_share: float | None = None
    test: str | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seed", 0, 2**63 - 1), ("held_out", 1, 10**6), ("min_user_interactions", 1, 10**9),
            ("min_item_interactions", 1, 10**9),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                bound = f"least {low}" if value < low else f"most {high}"
                shown = "split_seed" if name == "seed" else name
                raise InputError(f"{shown} is {value}; it must be at {bound}", field=shown)
        if self.split not in SPLITS:
            raise InputError(f"split is '{self.split}'; choose {', '.join(SPLITS)}", field="split")
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise InputError(
                f"test_share is {self.test_share}; it must be above 0 and below 1, such as {TEST_SHARE}",
                field="test_share",
            )
        self._check_together()

    def _check_together(self) -> None:
        if self.test is not None:
            others = [("split", self.split, SPLITS[0]), ("test_share", self.test_share, None),
                      ("held_out", self.held_out, 1)]  # fmt: skip
            for name, value, usual in others:
                if value != usual:
                    raise InputError(f"test is {self.test}, which holds the held-out items, so {name} cannot be "
                                     f"{value}; leave one of them out", field="test")  # fmt: skip
        if self.split == SPLITS[0] and self.test_share is not None:
            raise InputError(f"test_share is {self.test_share}, and split is {self.split}, which holds out held_out "
                             "items of each user; give split ratio or time, or leave test_share out",
                             field="test_share")  # fmt: skip
        if self.split != SPLITS[0] and self.held_out != 1:
            raise InputError(f"held_out is {self.held_out}, and split is {self.split}, which holds out a share; give "
                             f"test_share, or split {SPLITS[0]}", field="held_out")  # fmt: skip

    @property
    def minima(self) -> tuple[int, int]:
        """The least interactions of a user and of an item."""
        return self.min_user_interactions, self.min_item_interactions

    @property
    def share(self) -> float:
        """The share that is held out; for the splits ratio and time."""
        return TEST_SHARE if self.test_share is None else self.test_share

    def num_held_out(self, count: IntArray) -> IntArray:
        """How many interactions are held out of users who have `count` [U]: as many, or the rounded share."""
        if self.split == "ratio":
            rounded: IntArray = np.floor(self.share * count + 0.5).astype(np.int64)
            return rounded
        return np.full(len(count), self.held_out, np.int64)


@dataclass(frozen=True)
class HeldOut:
    """Held-out items, one in each row: `user_index`, `item_index` int [T]; `negatives` int [T, C] if the data has some.

    The last row of a user is the latest. A negative of -1 is padding and is ignored. `timestamp` [T] are the times of
    the interactions, if they are known.
    """

    user_index: IntArray
    item_index: IntArray
    negatives: IntArray | None = None
    timestamp: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.user_index)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """The rows [T] whose user and item are known: an unknown one has the index -1."""
        return (self.user_index >= 0) & (self.item_index >= 0)

    def take(self, rows: npt.NDArray[Any]) -> HeldOut:
        """The held-out items at `rows` (indices or a mask [T])."""
        negatives, time = (None if each is None else each[rows] for each in (self.negatives, self.timestamp))
        return HeldOut(self.user_index[rows], self.item_index[rows], negatives, time)

    def reindex(self, user_of: IntArray, item_of: IntArray) -> HeldOut:
        """The same items in new indices `user_of[index]`, `item_of[index]`; a new index of -1 leaves a row out."""
        negatives = self.negatives
        if negatives is not None:
            negatives = np.where(negatives >= 0, item_of[negatives], -1)
        moved = HeldOut(user_of[self.user_index], item_of[self.item_index], negatives, self.timestamp)
        return moved.take(moved.known)


@dataclass(frozen=True)
class Split:
    """Training interactions and held-out items, in indices of the same users and items.

    `validation` are the items for the choice of the epoch, if the data brings its own; they are not in `train`. `look`
    says in a few lines what was read (ncf/data/look.py). `later` are the held-out interactions with their weights, if
    they are known; they may be of users and items that `train` does not have, and have ids of their own then.
    """

    train: Interactions
    held_out: HeldOut
    validation: HeldOut | None = None
    look: tuple[str, ...] = ()
    later: Interactions | None = None

    def fitted(self) -> Interactions:
        """All interactions that are not held out; those that prepared data keeps for the choice of the epoch, too."""
        return self._with(self.train, self.validation)

    def whole(self, options: SplitOptions) -> Interactions:
        """All interactions, the held-out ones too, of users and items with as many as the options ask for."""
        if self.later is None:
            return self._with(self.fitted(), self.held_out)
        found = joined(self.fitted(), self.later, options.reading.sum_repeats)
        return k_core(found, *options.minima)

    def _with(self, these: Interactions, others: HeldOut | None) -> Interactions:
        if others is None or not len(others):
            return these
        pairs = Interactions(these.users, these.items, others.user_index, others.item_index, None, others.timestamp)
        return joined(these, pairs)

    def reindex(self, users: IdIndex, items: IdIndex) -> Split:
        """The same split in the indices of other users and items; rows with unknown ids are left out."""
        if self.train.users.ids.equals(users.ids) and self.train.items.ids.equals(items.ids):
            return self
        user_of, item_of = users.encode(self.train.users.ids), items.encode(self.train.items.ids)
        user, item = user_of[self.train.user_index], item_of[self.train.item_index]
        known = (user >= 0) & (item >= 0)
        weight, time = (None if each is None else each[known] for each in (self.train.weight, self.train.timestamp))
        train = Interactions(users, items, user[known], item[known], weight, time)
        held_out = self.held_out.reindex(user_of, item_of)
        validation = None if self.validation is None else self.validation.reindex(user_of, item_of)
        left_out = int((~known).sum()) + len(self.held_out) - len(held_out)
        if self.validation is not None and validation is not None:
            left_out += len(self.validation) - len(validation)
        if left_out:
            log.warning("%d interactions with ids this run was not trained on are left out", left_out)
        return Split(train, held_out, validation, self.look)
