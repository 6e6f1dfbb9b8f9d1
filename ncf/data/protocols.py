"""Protocols: which interactions are held out. docs/training.md has the definitions, their sources and when to use each.

leave-one-out and ratio hold out the latest interactions of each user; without timestamps a seed chooses by the raw ids.
time cuts all interactions at one time: nobody's later interaction trains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.interactions import IntArray, Interactions, count_indices
from ncf.data.random_order import random_order
from ncf.data.splits import HeldOut, Split, SplitOptions
from ncf.errors import InputError

log = logging.getLogger(__name__)

CHOICE_ROWS = 50_000  # most held-out items that an epoch is measured on
NumOf = Callable[[IntArray], IntArray]  # of the numbers of interactions of users [U], how many are held out


def hold_out(interactions: Interactions, options: SplitOptions) -> Split:
    """Hold out interactions as the options say; the ids stay as they are. Raises InputError if that is impossible."""
    if options.split == "time":
        return by_time(interactions, options.share)
    return of_each_user(interactions, options.seed, options.num_held_out)


def leave_one_out(interactions: Interactions, seed: int = 0, held_out: int = 1) -> Split:
    """Hold out the latest `held_out` items of each user (arXiv 1708.05031, section 4.1)."""
    return hold_out(interactions, SplitOptions(seed=seed, held_out=held_out))


def of_each_user(interactions: Interactions, seed: int, num_of: NumOf) -> Split:
    """Hold out the latest items of each user; without timestamps `seed` chooses the items by `random_order`.

    At least one interaction of each user stays for training: a user with a single interaction has no held-out item.
    """
    user, item = interactions.user_index, interactions.item_index
    order_within = interactions.timestamp
    if order_within is None:
        order_within = random_order(interactions.users, interactions.items, seed)(user, item)
    # Rows with the same time are ordered by their place in the file.
    (held,) = latest_rows(user, (order_within, np.arange(len(user))), num_of)
    keep = np.ones(len(user), bool)
    keep[held] = False
    later = interactions.take(held)
    pairs = HeldOut(later.user_index, later.item_index, timestamp=later.timestamp)
    return Split(interactions.take(keep), pairs, later=later)


def by_time(interactions: Interactions, share: float) -> Split:
    """Hold out all interactions from one time on (see `cut_time`). Raises InputError without timestamps."""
    time = interactions.timestamp
    if time is None:
        raise InputError("split is time, and the interactions have no timestamps; give some, or choose another split")
    late = time >= cut_time(time, share)
    user, item = interactions.user_index, interactions.item_index
    rows = np.flatnonzero(late)
    rows = rows[np.lexsort((time[rows], user[rows]))]
    return Split(interactions.take(~late), HeldOut(user[rows], item[rows], timestamp=time[rows]))


def cut_time(time: npt.NDArray[Any], share: float) -> Any:
    """The time of `time` [N] from which on about `share` of the N lie; equal times are on the same side.

    Of all cuts between different times it is the one whose share is nearest, the later one of two. Raises InputError
    if all times are equal.
    """
    each, counts = np.unique(time, return_counts=True)
    if len(each) < 2:
        raise InputError(
            "split is time, and all interactions have the same time, so none is later; choose another split"
        )
    held = len(time) - counts.cumsum()[:-1]  # of a cut at each[1], each[2], ...
    distance = np.abs(held - share * len(time))
    return each[len(held) - int(distance[::-1].argmin())]


def trained_only(fit: Interactions, held_out: HeldOut) -> HeldOut:
    """The held-out items of a user and an item that `fit` has interactions of."""
    known = fit.popularity()[held_out.item_index] > 0
    return held_out.take(known & (count_indices(fit.user_index, fit.num_users)[held_out.user_index] > 0))


def some_of(held_out: HeldOut, seed: int) -> HeldOut:
    """At most CHOICE_ROWS random held-out items, the same for a seed: so many measure an epoch to ±.002."""
    if len(held_out) <= CHOICE_ROWS:
        return held_out
    rows = np.sort(np.random.default_rng(seed).choice(len(held_out), CHOICE_ROWS, replace=False))
    return HeldOut(held_out.user_index[rows], held_out.item_index[rows])


def in_indices_of(train: Interactions, later: Interactions) -> HeldOut:
    """Interactions that have ids of their own, by user, in the indices of `train`.

    The index of an unknown item is -1, and so is that of a user without an interaction in `train`: everything that is
    known of a user may be held out.
    """
    order = np.argsort(later.user_index, kind="stable")
    user = train.users.encode(later.users.ids)[later.user_index[order]]
    item = train.items.encode(later.items.ids)[later.item_index[order]]
    user[count_indices(train.user_index, train.num_users)[user] == 0] = -1
    return HeldOut(user, item, timestamp=None if later.timestamp is None else later.timestamp[order])


def latest_rows(user_index: IntArray, keys: Sequence[npt.NDArray[Any]], *nums: NumOf) -> list[IntArray]:
    """For each user the last rows in the order of the keys [N]: as many as the first of `nums` says; before those as
    many as the next one says of the rows that are left, and so on.

    The rows of a user are returned in their order. The first row of a user is never among them: it is trained on.
    """
    table = pl.DataFrame({"user": user_index, **{str(number): key for number, key in enumerate(keys)}})
    order = table.select(pl.arg_sort_by(table.columns)).to_series().to_numpy()  # 2 to 4 times as fast as np.lexsort
    user = user_index[order]
    first = np.flatnonzero(np.append(True, user[1:] != user[:-1])[: len(user)])
    counts = np.diff(np.append(first, len(user)))
    later = np.repeat(first + counts, counts) - 1 - np.arange(len(user))
    left, found = counts, []
    for num_of in nums:
        taken = np.minimum(num_of(left), left - 1)
        begin, end = (np.repeat(bound, counts) for bound in (counts - left, counts - left + taken))
        found.append(order[(later >= begin) & (later < end)])
        left = left - taken
    return found


def require_held_out(num: int) -> None:
    if num == 0:
        raise InputError("no user has two different items, so nothing can be held out; give more interactions")


def warn_of_unknown(pairs: HeldOut, name: str) -> None:
    """Warn of held-out pairs with an unknown user or item (-1). Raises InputError if that is all of them."""
    if not pairs.known.any():
        raise InputError(
            f"{name}: none of the {len(pairs):,} held-out interactions is of a user and an item that the training data "
            "have; are the ids of the same kind?"
        )
    if not pairs.known.all():
        counts = ((~pairs.known).sum(), len(pairs), (pairs.user_index < 0).sum(), (pairs.item_index < 0).sum())
        log.warning(
            "%s of %s held-out interactions are left out: the training data lack the users of %s and the items of %s",
            *(f"{count:,}" for count in counts),
        )
