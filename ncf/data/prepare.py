"""Prepare data of any size for training: stream it in, split it, and write arrays that `ncf train` maps.

The rows are read three times: for the ids; for their indices, which go to files by ranges of users that fit into
memory; and from those files into the arrays of ncf/data/prepared.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from shutil import rmtree

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.interactions import Columns, IdIndex, IntArray, require_two
from ncf.data.k_core import Mask, core_of, with_minima
from ncf.data.prepared import Manifest, new_folder, write_manifest
from ncf.data.ranges import OnProgress, Rows, distinct, in_core, watched, write_arrays, write_ranges
from ncf.data.splits import SplitOptions, require_held_out
from ncf.data.stream import Source, open_source
from ncf.errors import InputError

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

    `data` and `test` are CSV, TSV or Parquet files, or folders of such. The interactions in `test`, if given, are the
    held-out ones; then `held_out` of the options is only written down, and without `validation` no item is cut for the
    choice of the epoch. `on_progress(what, done, total)` is called after each step. The folder appears when it is
    complete, or not at all. Raises InputError as `load_split` does, and if no user and item in `test` is known.
    """
    options = options or SplitOptions()
    columns = options.columns
    with new_folder(output) as folder:
        on_progress("reading ids", 0, 3)
        source = open_source(data, columns)
        on_progress("reading ids", 1, 3)
        users, of_user, sizes = source.ids(columns.user_id, "--user-column")
        on_progress("reading ids", 2, 3)
        items, *_ = source.ids(columns.item_id, "--item-column")
        on_progress("reading ids", 3, 3)
        pairs = read_pairs(test, columns, users, items) if test else None
        work = folder / "work"
        work.mkdir()
        files = write_ranges(work, source.batches(users, items, sizes), source.record, of_user, on_progress)
        ranges = [
            distinct(file, source.record, len(items)) for file in watched(files, "sorting", len(files), on_progress)
        ]
        if pairs:
            ranges = list(without(ranges, pairs, len(items)))
        _warn_of_repeated(sum(sizes), sum(len(rows["user"]) for rows in ranges), data, bool(test))
        on_progress("counting", 0, 1)
        kept = core_of([(rows["user"], rows["item"]) for rows in ranges], len(users), len(items), *options.minima)
        on_progress("counting", 1, 1)
        where = f"{data[0]} and {len(data) - 1} more" if len(data) > 1 else str(data[0])
        left: Iterable[Rows] = ranges
        if not (kept[0].all() and kept[1].all()):
            users, items, where = users.only(kept[0]), items.only(kept[1]), with_minima(where, *options.minima)
            left = in_core(ranges, *kept)
        left = watched(left, "writing", len(ranges), on_progress)
        num_held_out = options.held_out
        if test:  # 0 held-out items: the latest item is cut for the choice of the epoch; -1: no item is cut
            num_held_out = 0 if validation else -1
        of_user, lengths = write_arrays(folder, left, len(users), source.has_weight, options.seed, num_held_out)
        require_two(users, items, of_user, where)
        if pairs:
            lengths["held_out"] = write_held_out(folder, pairs, kept, of_user, test)
        require_held_out(lengths["held_out"])
        rmtree(work)
        return finish(folder, users, items, lengths, source, options)


def _warn_of_repeated(num_rows: int, num_left: int, data: Sequence[Path], has_test: bool) -> None:
    """Warn of rows that are not trained on. Raises InputError if that is all of them."""
    if num_left == 0:
        raise InputError(f"all interactions of {data[0].name} are held out as well; give other data to train on")
    if repeated := num_rows - num_left:
        log.warning(
            "%d rows are repeated, or held out as well, and are left out of training"
            if has_test
            else "%d repeated (user, item) pairs: the latest of each is kept",
            repeated,
        )


def write_held_out(
    folder: Path, pairs: Pairs, kept: tuple[Mask, Mask], of_user: npt.NDArray[np.int64], test: Sequence[Path]
) -> int:
    """Write the held-out arrays of pairs whose user and item are trained on, and return how many there are.

    `kept` are the users and items in the core, `of_user` [users in the core] the training interactions of each.
    """
    user, item = (renumbered(index, mask) for index, mask in zip(pairs, kept, strict=True))
    user[of_user[user] == 0] = -1  # everything that is known of this user is held out
    known = (user >= 0) & (item >= 0)
    warn_of_unknown(user, item, test)
    for name, values in (("user", user), ("item", item)):
        np.save(folder / f"held_out_{name}_index.npy", values[known].astype(np.int32))
    return int(known.sum())


def finish(
    folder: Path, users: IdIndex, items: IdIndex, lengths: Mapping[str, int], source: Source, options: SplitOptions
) -> Manifest:
    """Write the ids and, last, the manifest; `lengths` are those of the arrays."""
    for name, index in (("user", users), ("item", items)):
        index.ids.alias(f"{name}_id").to_frame().write_parquet(folder / f"{name}s.parquet")
    return write_manifest(
        folder,
        num_users=len(users),
        num_items=len(items),
        **{f"num_{name}": length for name, length in lengths.items()},
        columns=source.names,
        seed=options.seed,
        held_out=options.held_out,
        min_user_interactions=options.min_user_interactions,
        min_item_interactions=options.min_item_interactions,
    )


def read_pairs(paths: Sequence[Path], columns: Columns, users: IdIndex, items: IdIndex) -> Pairs:
    """The distinct pairs of a table, as indices of the given users and items, sorted by user and then by time."""
    source = open_source(paths, columns)
    own_users, _, sizes = source.ids(columns.user_id, "--user-column")
    own_items, *_ = source.ids(columns.item_id, "--item-column")
    rows = np.concatenate(list(source.batches(own_users, own_items, sizes)))
    frame = pl.DataFrame(
        {name: rows[name] for name in ("user", "item", "time", "row") if name in (rows.dtype.names or ())}
    )
    order = ["user", *(["time"] if "time" in frame.columns else []), "row"]
    frame = frame.sort(order).unique(["user", "item"], keep="last", maintain_order=True)
    return (
        users.encode(own_users.ids)[frame["user"].to_numpy()],
        items.encode(own_items.ids)[frame["item"].to_numpy()],
    )


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


def warn_of_unknown(user: IntArray, item: IntArray, paths: Sequence[Path]) -> None:
    """Warn of held-out pairs with an unknown user or item. Raises InputError if that is all of them."""
    unknown = (user < 0) | (item < 0)
    if unknown.all():
        raise InputError(
            f"{paths[0].name}: none of the {len(user):,} held-out interactions is of a user and an item that the "
            "training data have; are the ids of the same kind?"
        )
    if unknown.any():
        counts = (unknown.sum(), len(user), (user < 0).sum(), (item < 0).sum())
        log.warning(
            "%s of %s held-out interactions are left out: the training data lack the users of %s and the items of %s",
            *(f"{count:,}" for count in counts),
        )
