"""The split of a file or a folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ncf.data.interactions import Interactions, count_indices, require_two
from ncf.data.k_core import k_core, with_minima
from ncf.data.paper_format import read_paper_folder
from ncf.data.prepared import is_prepared, open_prepared
from ncf.data.splits import HeldOut, Split, SplitOptions, leave_one_out, require_held_out
from ncf.data.tables import read_interactions
from ncf.errors import InputError


def load_split(path: Path, options: SplitOptions | None = None) -> Split:
    """The split of a file, made here, or of a folder: one of `ncf prepare` or in the NCF paper's format.

    A folder has a split of its own; the arrays of a prepared folder are mapped, not read. Raises InputError for data
    that cannot be read or split, and for options that a folder's own split contradicts.
    """
    options = options or SplitOptions()
    if path.is_dir():
        return _load_folder(path, options)
    interactions = read_interactions(path, options.columns)
    core = k_core(interactions, *options.minima)
    if core is not interactions:
        where = with_minima(path, *options.minima)
        require_two(core.users, core.items, count_indices(core.user_index, core.num_users), where)
    split = leave_one_out(core, options.seed, options.held_out)
    require_held_out(len(split.held_out))
    return split


def _load_folder(folder: Path, options: SplitOptions) -> Split:
    """The split of a folder. An option of 1 is the default, so only other values have to agree with the folder."""
    names = ("held_out", "min_user_interactions", "min_item_interactions")
    asked = {name: value for name in names if (value := getattr(options, name)) != 1}
    prepared = open_prepared(folder) if is_prepared(folder) else None
    own = {} if prepared is None else asdict(prepared.manifest)
    if other := [f"{name} = {value}" for name, value in asked.items() if value != own.get(name)]:
        kind = "in the NCF paper's format" if prepared is None else "of `ncf prepare`"
        raise InputError(
            f"{folder} is a folder {kind}, which has its own split: {', '.join(other)} cannot be applied to it; leave "
            "the option out, or give a file of interactions"
        )
    if prepared is None:
        return read_paper_folder(folder)
    of = prepared.arrays
    users, items = prepared.users, prepared.items
    weight, indptr = of.get("train_weight"), of["train_indptr"]
    train = Interactions(users, items, of["train_user_index"], of["train_item_index"], weight, indptr=indptr)
    held_out, validation = (
        HeldOut(of[f"{name}_user_index"], of[f"{name}_item_index"]) for name in ("held_out", "validation")
    )
    return Split(train, held_out, validation)
