"""Prepare data of any size for training: stream it in, split it, and write arrays that `ncf train` maps.

The rows are read three times: for the ids; for their indices, which go to files by ranges of users that fit into
memory; and from those files into the arrays of ncf/data/prepared.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.interactions import IdIndex, IntArray, count_indices, latest_of_pairs, require_two
from ncf.data.k_core import Mask, core_of, with_minima
from ncf.data.look import held_out_words, look_at, unknown_words
from ncf.data.prepared import Manifest, new_folder, write_manifest
from ncf.data.protocols import NumOf, require_held_out, warn_of_unknown
from ncf.data.random_order import random_order
from ncf.data.ranges import OnProgress, Rows, distinct, in_core, watched, write_arrays, write_ranges
from ncf.data.splits import HeldOut, SplitOptions
from ncf.errors import InputError
from ncf.files.source import Source, open_source

log = logging.getLogger(__name__)

Pairs = tuple[IntArray, IntArray]  # users and items [T]; an unknown user or item is -1


def prepare(
    data: Sequence[Path],
    output: Path,
    options: SplitOptions | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
    test: Sequence[Path] = (),
    validation: bool = True,
) -> Manifest:
    """Write a folder for `load_split`: the same split that it makes of the data, and the items that choose the epoch.

    `data` and `test` are files, or folders of files. The interactions in `test`, if given here or in the options, are
    the held-out ones, and without `validation` no item is cut for the choice of the epoch. `on_progress(what, done,
    total)` is called after each step. The folder appears when it is complete, or not at all. Raises InputError as
    `load_split` does, and for the split time.
    """
    options = options or SplitOptions()
    if options.split == "time":
        raise InputError(
            "split is time, for which all times have to be in memory at once, and prepare streams the data; write what "
            "comes later into a file of its own, and give it as test"
        )
    test = test or ([Path(options.test)] if options.test else ())
    with new_folder(output) as folder:
        work = folder / "work"
        work.mkdir()
        on_progress("reading ids", 0, 2)
        source = open_source(data, options.columns, options.reading, work)
        on_progress("reading ids", 1, 2)
        users, items = IdIndex(source.users.ids), IdIndex(source.items.ids)
        on_progress("reading ids", 2, 2)
        pairs = read_pairs(test, options, users, items, work) if test else None
        of_user = source.users.counts.to_numpy()
        files = write_ranges(work, source.batches(), source.record, of_user, on_progress)
        ranges, repeated = [], 0
        for file in watched(files, "sorting", len(files), on_progress):
            rows, more = distinct(file, source.record, len(items), options.reading.sum_repeats)
            ranges.append(rows)
            repeated += more
        num_pairs = sum(len(rows["user"]) for rows in ranges)
        seen = [count_column(ranges, name, size) > 0 for name, size in (("user", len(users)), ("item", len(items)))]
        if pairs:
            ranges = list(without(ranges, pairs, len(items)))
        num_left = sum(len(rows["user"]) for rows in ranges)
        if num_left == 0:
            raise InputError(f"all interactions of {data[0].name} are held out as well; give other data to train on")
        if num_left < num_pairs:
            log.warning(
                "%s interactions are held out as well, and are left out of training", f"{num_pairs - num_left:,}"
            )
        on_progress("counting", 0, 1)
        core = core_of([(rows["user"], rows["item"]) for rows in ranges], len(users), len(items), *options.minima)
        kept = (core[0] & seen[0], core[1] & seen[1])
        on_progress("counting", 1, 1)
        where = source.shown
        left: Iterable[Rows] = ranges
        if not (kept[0].all() and kept[1].all()):
            users, items, where = users.only(kept[0]), items.only(kept[1]), with_minima(where, *options.minima)
            left = in_core(ranges, *kept)
        left = watched(left, "writing", len(ranges), on_progress)
        nums: tuple[NumOf, NumOf] = (options.num_held_out, replace(options, held_out=1).num_held_out)
        if test:
            nums = (np.zeros_like, np.ones_like if validation else np.zeros_like)
        order = None if source.times else random_order(users, items, options.seed)
        of_user, lengths, span = write_arrays(folder, left, len(users), source.has_weight, order, nums)
        require_two(users, items, of_user, where)
        held = held_out_words(options, span, source.unit, source.roles.timestamp)
        if pairs:
            asked = write_held_out(folder, pairs, kept, of_user, test)
            lengths["held_out"] = int(asked.known.sum())
            held = f"{lengths['held_out']:,} interactions of {', '.join(path.name for path in test)}"
            held += unknown_words(asked)
        require_held_out(lengths["held_out"])
        rmtree(work)
        look = look_at(source, len(users), len(items), int(of_user.sum()), repeated, held)
        return finish(folder, users, items, lengths, source, options, look)


def count_column(ranges: Sequence[Rows], name: str, size: int) -> IntArray:
    """The interactions of each user or item, int64 [size]."""
    return sum((count_indices(rows[name], size) for rows in ranges), np.zeros(size, np.int64))


def write_held_out(
    folder: Path, pairs: Pairs, kept: tuple[Mask, Mask], of_user: npt.NDArray[np.int64], test: Sequence[Path]
) -> HeldOut:
    """Write the held-out arrays of pairs whose user and item are trained on, and return all pairs in these indices.

    `kept` are the users and items in the core, `of_user` [users in the core] the training interactions of each.
    """
    user, item = (renumbered(index, mask) for index, mask in zip(pairs, kept, strict=True))
    user[of_user[user] == 0] = -1  # everything that is known of this user is held out
    asked = HeldOut(user, item)
    warn_of_unknown(asked, test[0].name)
    for name, values in (("user", user), ("item", item)):
        np.save(folder / f"held_out_{name}_index.npy", values[asked.known].astype(np.int32))
    return asked


def finish(
    folder: Path, users: IdIndex, items: IdIndex, lengths: Mapping[str, int], source: Source, options: SplitOptions,
    look: Sequence[str],
) -> Manifest:  # fmt: skip
    """Write the ids and, last, the manifest; `lengths` are those of the arrays."""
    for name, index in (("user", users), ("item", items)):
        index.ids.alias(f"{name}_id").to_frame().write_parquet(folder / f"{name}s.parquet")
    return write_manifest(
        folder,
        num_users=len(users),
        num_items=len(items),
        **{f"num_{name}": length for name, length in lengths.items()},
        columns=source.roles.used,
        seed=options.seed,
        held_out=options.held_out,
        min_user_interactions=options.min_user_interactions,
        min_item_interactions=options.min_item_interactions,
        split=options.split,
        test_share=options.test_share,
        look=list(look),
    )


def read_pairs(paths: Sequence[Path], options: SplitOptions, users: IdIndex, items: IdIndex, scratch: Path) -> Pairs:
    """The distinct pairs of a table, as indices of the given users and items, sorted by user and then by time."""
    source = open_source(paths, options.columns, options.reading, scratch)
    rows = np.concatenate(list(source.batches()))
    frame = pl.DataFrame(
        {name: rows[name] for name in ("user", "item", "time", "row") if name in (rows.dtype.names or ())}
    )
    frame = latest_of_pairs(frame).sort("user", maintain_order=True)
    own_users, own_items = (index.encode(ids) for index, ids in ((users, source.users.ids), (items, source.items.ids)))
    return own_users[frame["user"].to_numpy()], own_items[frame["item"].to_numpy()]


def without(ranges: Iterable[Rows], pairs: Pairs, num_items: int) -> Iterator[Rows]:
    """The rows of all pairs but the given ones."""
    user, item = (index.astype(np.int64) for index in pairs)
    held = (user * num_items + item)[(user >= 0) & (item >= 0)]
    for rows in ranges:
        kept = ~np.isin(rows["user"].astype(np.int64) * num_items + rows["item"], held)
        yield {name: values[kept] for name, values in rows.items()}


def renumbered(index: IntArray, kept: Mask) -> IntArray:
    """Indices [T] counted among those that are `kept` (bool [n]); -1 for the others."""
    return np.where(index >= 0, np.where(kept, np.cumsum(kept) - 1, -1)[index], -1)
