"""Items and users that a run does not know, added to it by the features that they have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ncf.data.interactions import IdIndex
from ncf.errors import InputError
from ncf.features.encoding import FeatureValues
from ncf.features.table import ids_like, read_features
from ncf.models.learned_features import LearnedSide
from ncf.models.neural import build_model
from ncf.models.seen import SeenItems
from ncf.training.run_directory import Run, load_features


def with_new(run: Run, new_items: Any = None, new_users: Any = None) -> tuple[Run, list[str]]:
    """The run with the items and users of tables of features, paths or frames, that it does not know; and what was
    done, in words.

    They come after the known ones, with rows from what the run learned about the values of their features. The scores
    of new items are raised by the constant that the training found (ncf/models/learned_features.py). Raises InputError
    for a run without such features.
    """
    if new_items is None and new_users is None:
        return run, []
    learned = load_features(run)
    words: list[str] = []
    items, users = (None, None) if learned is None else (learned.items, learned.users)
    for source, what, side in ((new_items, "item", items), (new_users, "user", users)):
        if source is None:
            continue
        if side is None:
            raise InputError(
                f"--new-{what}s needs a run that knows features of {what}s, and {run.path} was trained without; train "
                f"it with --{what}-features"
            )
        ids, values, said = _new_ids(run, source, what, side)
        words += said
        rows = side.rows_of(values)
        if what == "item":
            assert learned is not None
            rows[-1] = rows[-1] + learned.raised
        run = _longer(run, what, ids, rows)
    return run, words


def _new_ids(run: Run, source: Any, what: str, side: LearnedSide) -> tuple[pl.Series, FeatureValues, list[str]]:
    """The ids that the run does not know, and their values."""
    index = run.items if what == "item" else run.users
    table = read_features(source, what, run.config.split.columns, f"--new-{what}s")
    row = np.flatnonzero(index.encode(table.ids) < 0)
    ids = ids_like(index, table.ids.gather(row), table.shown)
    values = side.encoding.encode(table.columns, row)
    words = [f"{len(ids):,} new {what}s from {table.shown}"]
    if known := len(table.ids) - len(ids):
        words[0] += f"; {known:,} others are in the run already, and stay as they are"
    if unknown := int((np.diff(values.indptr) == 1).sum()):
        words.append(f"{unknown:,} of them have no value that the run knows, and get what all {what}s have in common")
    return ids, values, words


def _longer(run: Run, what: str, ids: pl.Series, rows: list[Tensor]) -> Run:
    """The run with more ids at the end, whose rows are in the order of the branches (and the item bias)."""
    users, items, known = run.users, run.items, run.known
    if what == "item":
        items = IdIndex(pl.concat([items.ids, ids.alias(items.ids.name)]))
        known = SeenItems.of_csr(known.indptr, known.items, len(items))
    else:
        users = IdIndex(pl.concat([users.ids, ids.alias(users.ids.name)]))
        known = SeenItems.of_csr(torch.cat([known.indptr, known.indptr[-1:].expand(len(ids))]), known.items, len(items))
    weights = run.model.state_dict()
    names = [f"branches.{number}.{what}_embedding.weight" for number in range(len(run.model.branches))]
    for name, more in zip([*names, "item_bias.weight"], rows, strict=what == "item"):
        weights[name] = torch.cat([weights[name], more.to(weights[name].device)])
    config = run.config
    model = build_model(config.model, len(users), len(items), config.result_factors, config.num_layers)
    model.load_state_dict(weights)
    model.to(weights["item_bias.weight"].device)
    return replace(run, users=users, items=items, known=known, model=model.eval())
