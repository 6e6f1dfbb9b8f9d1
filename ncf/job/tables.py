"""Tables in several files, made one; and a split whose held-out items are a table of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shutil import rmtree

import numpy as np
import polars as pl

from ncf.data.interactions import Columns, IdIndex, IntArray, readable, require_two
from ncf.data.k_core import core_of, with_minima
from ncf.data.prepare import Rows, distinct, finish, in_core, write_arrays, write_ranges
from ncf.data.prepared import Manifest, new_folder
from ncf.data.stream import open_source
from ncf.errors import InputError

log = logging.getLogger(__name__)

Pairs = tuple[IntArray, IntArray]  # users and items [T], -1 for an unknown one


def one_table(paths: Sequence[Path], output: Path, columns: Columns) -> None:
    """Write the rows of several tables, one after another, as Parquet. Raises InputError for what cannot be read."""
    source = open_source(paths, columns)
    names = [name for name in source.names.values() if name]
    with readable(output):
        frames = [part.frame.select(names) for part in source.parts]
        pl.concat(frames, how="vertical_relaxed").sink_parquet(output)


def prepare_with_held_out(
    train: Sequence[Path],
    test: Sequence[Path],
    output: Path,
    columns: Columns,
    seed: int = 0,
    held_out: int = 1,
    min_user_interactions: int = 1,
    min_item_interactions: int = 1,
    validation: bool = True,
) -> Manifest:
    """Write a folder that `load_split` maps, as `ncf prepare` does: `test` is held out.

    With `validation` each user's latest item in `train` chooses the epoch; `held_out` is only noted. Raises InputError
    for what cannot be read, or where nothing in `test` can be asked for.
    """
    minima = (min_user_interactions, min_item_interactions)
    with new_folder(output) as folder:
        source = open_source(train, columns)
        users, of_user, sizes = source.ids(columns.user_id, "--user-column")
        items, *_ = source.ids(columns.item_id, "--item-column")
        pairs = read_pairs(test, columns, users, items)
        work = folder / "work"
        work.mkdir()
        files = write_ranges(work, source.batches(users, items, sizes), source.record, of_user, lambda *_: None)
        ranges = list(without((distinct(file, source.record, len(items)) for file in files), pairs, len(items)))
        if not any(len(rows["user"]) for rows in ranges):
            raise InputError(f"all interactions of {train[0].name} are held out as well; give other data to train on")
        if repeated := sum(sizes) - sum(len(rows["user"]) for rows in ranges):
            log.warning("%d rows are repeated, or held out as well, and are left out of training", repeated)
        kept = core_of([(rows["user"], rows["item"]) for rows in ranges], len(users), len(items), *minima)
        left = in_core(ranges, *kept)
        user, item = (renumbered(index, mask) for index, mask in zip(pairs, kept, strict=True))
        users, items = users.only(kept[0]), items.only(kept[1])
        # What stands before the latest 0 items is the latest one; before -1 of them there is nothing.
        number = 0 if validation else -1
        of_user, lengths = write_arrays(folder, left, len(users), source.has_weight, seed, number)
        where = with_minima(train[0], *minima) if max(minima) > 1 else train[0]
        require_two(users, items, of_user, where)
        user[of_user[user] == 0] = -1  # all that is known of the user is held out
        known = (user >= 0) & (item >= 0)
        tell(user, item, test)
        for name, values in (("user", user), ("item", item)):
            np.save(folder / f"held_out_{name}_index.npy", values[known].astype(np.int32))
        rmtree(work)
        lengths["held_out"] = int(known.sum())
        return finish(folder, users, items, lengths, source, seed, held_out, minima)


def read_pairs(paths: Sequence[Path], columns: Columns, users: IdIndex, items: IdIndex) -> Pairs:
    """The distinct pairs of a table in the indices of others' ids, by user and then by time."""
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
    """The rows but those of the pairs."""
    user, item = (index.astype(np.int64) for index in pairs)
    held = (user * num_items + item)[(user >= 0) & (item >= 0)]
    for rows in ranges:
        kept = ~np.isin(rows["user"].astype(np.int64) * num_items + rows["item"], held)
        yield {name: values[kept] for name, values in rows.items()}


def renumbered(index: IntArray, kept: np.typing.NDArray[np.bool_]) -> IntArray:
    """Indices [T] among those that are kept, -1 for what is not; `kept` is bool [n]."""
    return np.where(index >= 0, np.where(kept, np.cumsum(kept) - 1, -1)[index], -1)


def tell(user: IntArray, item: IntArray, paths: Sequence[Path]) -> None:
    """Warn of held-out pairs with an unknown user or item. Raises InputError if there are no others."""
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
