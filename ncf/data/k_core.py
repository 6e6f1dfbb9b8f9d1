"""The k-core: only users and items with enough interactions, counted among those that stay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ncf.data.interactions import IntArray, Interactions, count_indices
from ncf.errors import InputError

log = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]


def k_core(interactions: Interactions, min_user_interactions: int = 1, min_item_interactions: int = 1) -> Interactions:
    """Leave out users and items with fewer interactions than the minima, until all that stay have enough.

    The ids that stay get new indices. Raises InputError if no interaction stays.
    """
    user, item = interactions.user_index, interactions.item_index
    users, items = core_of(
        [(user, item)], interactions.num_users, interactions.num_items, min_user_interactions, min_item_interactions
    )
    if users.all() and items.all():
        return interactions
    kept = interactions.take(users[user] & items[item])
    return Interactions(
        interactions.users.only(users),
        interactions.items.only(items),
        (np.cumsum(users) - 1)[kept.user_index],
        (np.cumsum(items) - 1)[kept.item_index],
        kept.weight,
        kept.timestamp,
    )


def core_of(
    parts: Sequence[tuple[IntArray, IntArray]],
    num_users: int,
    num_items: int,
    min_user_interactions: int,
    min_item_interactions: int,
) -> tuple[Mask, Mask]:
    """Which users [num_users] and items [num_items] are in the k-core of distinct pairs.

    `parts` are arrays of user and item indices, which may be memory maps. Raises InputError if no pair stays.
    """
    users, items = np.ones(num_users, bool), np.ones(num_items, bool)
    if min_user_interactions <= 1 and min_item_interactions <= 1:
        return users, items
    left = before = sum(len(user) for user, _ in parts)
    while True:
        of_user, of_item = np.zeros(num_users, np.int64), np.zeros(num_items, np.int64)
        for user, item in parts:
            kept = users[user] & items[item]
            of_user += count_indices(user[kept], num_users)
            of_item += count_indices(item[kept], num_items)
        left = int(of_user.sum())
        if left == 0:
            raise InputError(
                f"no interaction is left if every user must have at least {min_user_interactions} and every item at "
                f"least {min_item_interactions}; lower min_user_interactions or min_item_interactions"
            )
        users_now, items_now = of_user >= min_user_interactions, of_item >= min_item_interactions
        if (users_now == users).all() and (items_now == items).all():
            break
        users, items = users_now, items_now
    if left < before:
        log.warning(
            "%d of %d users, %d of %d items and %d of %d interactions are left out: they have too few interactions",
            *(num_users - int(users.sum()), num_users, num_items - int(items.sum()), num_items, before - left, before),
        )
    return users, items


def with_minima(where: Path | str, min_user_interactions: int, min_item_interactions: int) -> str:
    """How a message names the data after users and items with few interactions were left out."""
    return (
        f"{where} with min_user_interactions = {min_user_interactions} and "
        f"min_item_interactions = {min_item_interactions}"
    )
