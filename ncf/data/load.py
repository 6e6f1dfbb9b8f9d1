"""The split of files or of a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from ncf.data.adjacency import is_adjacency, read_adjacency_folder
from ncf.data.interactions import IdIndex, IntArray, Interactions, count_indices, latest_of_pairs, require_two
from ncf.data.k_core import k_core, with_minima
from ncf.data.look import folder_look, held_out_words, look_at, time_words, unknown_words
from ncf.data.paper_format import PAPER_FILES, read_paper_folder
from ncf.data.prepared import is_prepared, open_prepared
from ncf.data.protocols import cut_time, hold_out, in_indices_of, require_held_out, warn_of_unknown
from ncf.data.splits import SPLITS, HeldOut, Split, SplitOptions
from ncf.errors import InputError
from ncf.files.frames import table_of
from ncf.files.source import Source, open_source, source_of

log = logging.getLogger(__name__)
SPLIT_DEFAULTS = {"split": SPLITS[0], "test_share": None, "test": None, "held_out": 1, "min_user_interactions": 1,
                  "min_item_interactions": 1}  # fmt: skip


def load_split(data: Path | Sequence[Path], options: SplitOptions | None = None) -> Split:
    """The split of files and folders of files, made here, or of a folder that has a split of its own.

    Such a folder is one of `ncf prepare`, whose arrays are mapped and not read, or in the format of the NCF paper or of
    LightGCN. Raises InputError for data that cannot be read or split, and for options that a folder's own split
    contradicts.
    """
    options = options or SplitOptions()
    paths = [data] if isinstance(data, Path) else list(data)
    if own := [path for path in paths if has_own_split(path)]:
        if len(paths) > 1:
            raise InputError(f"{own[0]} is a folder with a split of its own; give it alone, or files of interactions")
        return _load_folder(own[0], options)
    with TemporaryDirectory(prefix="ncf-") as scratch:
        return split_source(open_source(paths, options.columns, options.reading, Path(scratch)), options)


def split_frame(frame: pl.DataFrame, options: SplitOptions) -> Split:
    """The split of a frame, as of a file. Raises InputError."""
    table = table_of(frame)
    if table is None:
        raise InputError("the frame has no rows; give interactions of users with items")
    return split_source(source_of([table], [], options.columns, options.reading), options)


def split_source(source: Source, options: SplitOptions) -> Split:
    """The split of files that are open. Raises InputError."""
    if options.test is not None:
        return _with_test(source, options, options.test)
    if options.split == "time":
        return _by_time(source, options)
    interactions, repeated = read_interactions(source)
    split = hold_out(_core(interactions, source, options), options)
    require_held_out(len(split.held_out))
    held = held_out_words(options, split.held_out.timestamp, source.unit, source.roles.timestamp)
    return _looked_at(split, source, len(split.train) + len(split.held_out), repeated, held)


def _core(interactions: Interactions, source: Source, options: SplitOptions) -> Interactions:
    """The users and items with enough interactions. Raises InputError if there is nothing to learn from them."""
    where = source.shown
    core = k_core(interactions, *options.minima)
    if core is not interactions:
        where = with_minima(where, *options.minima)
    require_two(core.users, core.items, count_indices(core.user_index, core.num_users), where)
    return core


def _looked_at(split: Split, source: Source, num_pairs: int, repeated: int, held: str) -> Split:
    return replace(split, look=look_at(source, split.train.num_users, split.train.num_items, num_pairs, repeated, held))


def _by_time(source: Source, options: SplitOptions) -> Split:
    """The split at one time. Rows are cut before those of a pair are merged, so that a later repeat changes nothing.

    Users and items are those with enough interactions before the cut. Later pairs of others, and of pairs that were
    there before, are left out and counted in the look.
    """
    name = source.roles.timestamp
    if name is None:
        raise InputError(
            f"split is time, and {source.shown} has no column of times; name it with --timestamp-column, or choose "
            "another split"
        )
    rows = _read_rows(source)
    cut = cut_time(rows["time"].to_numpy(), options.share)
    share = (rows["time"] >= cut).sum() / len(rows)
    early, repeated = _interactions(source, rows.filter(pl.col("time") < cut))
    late, more = _interactions(source, rows.filter(pl.col("time") >= cut))
    train = _core(early, source, options)
    later = in_indices_of(train, late)
    pair = later.user_index * train.num_items + later.item_index
    again = later.known & np.isin(pair, train.user_index * train.num_items + train.item_index)
    held_out = later.take(later.known & ~again)
    words = time_words(cut, share, len(held_out), source.unit, name, unknown_words(later), int(again.sum()))
    if not len(held_out):
        raise InputError(f"nothing is held out: {words}; give another test_share, or another split")
    split = Split(train, held_out, later=late)
    return _looked_at(split, source, len(train) + len(held_out), repeated + more, words)


def _with_test(source: Source, options: SplitOptions, test: str) -> Split:
    """The split whose held-out items are in files of their own, read as the data; they are left out of training."""
    with TemporaryDirectory(prefix="ncf-") as scratch:
        other = open_source([Path(test)], options.columns, options.reading, Path(scratch))
        later, _ = read_interactions(other)
    everything, repeated = read_interactions(source)
    users, items = (
        own.encode(ids) for own, ids in ((everything.users, later.users.ids), (everything.items, later.items.ids))
    )
    held = users[later.user_index] * everything.num_items + items[later.item_index]
    held = held[(users[later.user_index] >= 0) & (items[later.item_index] >= 0)]
    in_both = np.isin(everything.user_index * everything.num_items + everything.item_index, held)
    if in_both.all():
        raise InputError(f"all interactions of {source.shown} are held out as well; give other data to train on")
    if in_both.any():
        log.warning("%s interactions are held out as well, and are left out of training", f"{in_both.sum():,}")
    train = _core(everything.take(~in_both) if in_both.any() else everything, source, options)
    asked = in_indices_of(train, later)
    warn_of_unknown(asked, Path(test).name)
    held_out = asked.take(asked.known)
    words = f"{len(held_out):,} interactions of {Path(test).name}{unknown_words(asked)}"
    return _looked_at(Split(train, held_out, later=later), source, len(train), repeated, words)


def read_interactions(source: Source) -> tuple[Interactions, int]:
    """All interactions of a source in memory, in the order of time, and the number of rows of repeated pairs."""
    return _interactions(source, _read_rows(source))


def _read_rows(source: Source) -> pl.DataFrame:
    rows, num = np.empty(sum(source.num_good), source.record), 0
    for batch in source.batches():
        rows[num : num + len(batch)] = batch
        num += len(batch)
    if not num:
        left = "; ".join(map(str, source.left_out))
        raise InputError(f"{source.tables[0].shown} has no row that can be used; left out are {left}")
    return pl.DataFrame({name: rows[name][:num] for name in rows.dtype.names or ()})


def _interactions(source: Source, table: pl.DataFrame) -> tuple[Interactions, int]:
    """The rows as interactions of the users and items in them, and the number of rows of repeated pairs."""
    num = len(table)
    table = latest_of_pairs(table, source.reading.sum_repeats)
    users, user_index = _only_seen(IdIndex(source.users.ids), table["user"])
    items, item_index = _only_seen(IdIndex(source.items.ids), table["item"])
    weight = table["weight"].to_numpy() if "weight" in table.columns else None
    time = table["time"].to_numpy() if "time" in table.columns else None
    return Interactions(users, items, user_index, item_index, weight, time), num - len(table)


def _only_seen(index: IdIndex, column: pl.Series) -> tuple[IdIndex, IntArray]:
    """The ids that occur in a column of indices, and the column in their indices."""
    found = column.to_numpy().astype(np.int64)
    seen = count_indices(found, len(index)) > 0
    return (index, found) if seen.all() else (index.only(seen), (np.cumsum(seen) - 1)[found])


def has_own_split(path: Path) -> bool:
    """Whether a path is a folder that has a split of its own."""
    return path.is_dir() and (is_prepared(path) or is_adjacency(path) or is_paper(path))


def is_paper(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in PAPER_FILES)


def _load_folder(folder: Path, options: SplitOptions) -> Split:
    """The split of a folder. Only options that are not the default have to agree with the folder."""
    asked = {name: value for name, usual in SPLIT_DEFAULTS.items() if (value := getattr(options, name)) != usual}
    prepared = open_prepared(folder) if is_prepared(folder) else None
    own = {} if prepared is None else asdict(prepared.manifest)
    other = [f"{name} = {value}" for name, value in asked.items() if value != own.get(name)]
    columns = own.get("columns", {})
    for what, name in asdict(options.columns).items():
        if name is not None and name != columns.get(what.removesuffix("_id")):
            other.append(f"the {what} column '{name}'")
    other += [f"{name} = {value}" for name, value in options.reading.to_dict().items()]
    if other:
        kind = "in the format of the NCF paper or of LightGCN" if prepared is None else "of `ncf prepare`"
        raise InputError(
            f"{folder} is a folder {kind}, which has its own split: {', '.join(other)} cannot be applied to it; leave "
            "the option out, or give a file of interactions"
        )
    if prepared is None:
        split = read_adjacency_folder(folder) if is_adjacency(folder) else read_paper_folder(folder)
        return replace(split, look=folder_look(folder, split))
    of = prepared.arrays
    users, items = prepared.users, prepared.items
    weight, indptr = of.get("train_weight"), of["train_indptr"]
    train = Interactions(users, items, of["train_user_index"], of["train_item_index"], weight, indptr=indptr)
    held_out, validation = (
        HeldOut(of[f"{name}_user_index"], of[f"{name}_item_index"]) for name in ("held_out", "validation")
    )
    return Split(train, held_out, validation, tuple(prepared.manifest.look))
