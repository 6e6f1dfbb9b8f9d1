"""Warm start: a new model begins with the rows and the other parameters of an earlier model."""

from __future__ import annotations

import torch
from torch import Tensor

from ncf.models.fold_in import FoldIn, fit_fold_in
from ncf.models.neural import NCF
from ncf.models.seen import SeenItems, seen_positions

USERS_AT_ONCE = 256  # new users whose histories are folded in at a time


@torch.no_grad()
def warm_start(
    model: NCF, earlier: NCF, known: SeenItems, seen: SeenItems, user_of: Tensor, item_of: Tensor, keep_bias: bool
) -> NCF:
    """Give `model` the parameters of an `earlier` one of the same kind and size; returns it.

    `known` are the interactions of the earlier model, `seen` those of the new one. `user_of` [num_users] and `item_of`
    [num_items] are the indices in the earlier model, -1 for what is new. A new user is folded in from those of the
    user's items that the earlier model has, without any the row is the mean of all users'; a new item has the mean row
    of the items, and with `keep_bias` the item bias that `model` has.
    """
    of_model, taken = model.state_dict(), earlier.state_dict()
    for name, value in taken.items():
        place = user_of if "user_embedding" in name else item_of
        if name.endswith("embedding.weight") or name == "item_bias.weight":
            old = place >= 0
            of_model[name][old] = value[place[old]]
            if not (keep_bias and name == "item_bias.weight"):
                of_model[name][~old] = value.mean(dim=0)
        else:
            of_model[name].copy_(value)
    new = torch.nonzero(user_of < 0).squeeze(1)
    if len(new):
        fold_in = fit_fold_in(earlier.catalogue(), known)
        for users in torch.split(new, USERS_AT_ONCE):
            _fold(model, fold_in, seen, users, item_of)
    return model


def _fold(model: NCF, fold_in: FoldIn, seen: SeenItems, users: Tensor, item_of: Tensor) -> None:
    """Set the rows of new users [B] from their items."""
    row, position = seen_positions(seen.indptr, users)
    place = position - seen.indptr[users][row]
    history = torch.full((len(users), int(place.max()) + 1 if len(place) else 1), -1)
    history[row, place] = item_of[seen.items[position].long()]
    some = (history >= 0).any(dim=1)
    for branch, rows in zip(model.branches, fold_in(history, history >= 0), strict=True):
        branch.user_embedding.weight[users[some]] = rows[some].float()  # type: ignore[union-attr,operator]
