"""Splits: what is trained on and what is held out (leave one out, arXiv 1708.05031)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.interactions import (
    Columns,
    IdIndex,
    IntArray,
    Interactions,
    count_indices,
    from_table,
    read_interactions,
    require_two,
)
from ncf.data.k_core import k_core, with_minima
from ncf.data.prepared import is_prepared, open_prepared
from ncf.errors import InputError

log = logging.getLogger(__name__)

PAPER_FILES = ("*.train.rating", "*.test.rating", "*.test.negative")


@dataclass(frozen=True)
class HeldOut:
    """Held-out items, one a row: `user_index`, `item_index` int [T]; `negatives` int [T, C] where the data has some.

    Of a user's rows the latest is the last. A negative of -1 is a padding and counts for nothing.
    """

    user_index: IntArray
    item_index: IntArray
    negatives: IntArray | None = None

    def __len__(self) -> int:
        return len(self.user_index)

    def reindex(self, user_of: IntArray, item_of: IntArray) -> HeldOut:
        """The same in other indices: `user_of[index]` and `item_of[index]` are the new ones, -1 leaves a row out."""
        user, item = user_of[self.user_index], item_of[self.item_index]
        kept = (user >= 0) & (item >= 0)
        negatives = self.negatives
        if negatives is not None:
            negatives = np.where(negatives >= 0, item_of[negatives], -1)[kept]
        return HeldOut(user[kept], item[kept], negatives)


@dataclass(frozen=True)
class Split:
    """Training interactions and what is held out of them; all speak of the same users and items.

    `validation` is the hold-out for the choice of epoch where the data brings one; its rows are not in `train`.
    """

    train: Interactions
    held_out: HeldOut
    validation: HeldOut | None = None

    def reindex(self, users: IdIndex, items: IdIndex) -> Split:
        """The same split in the indices of other users and items; rows with ids unknown there are left out."""
        if self.train.users.ids.equals(users.ids) and self.train.items.ids.equals(items.ids):
            return self
        user_of, item_of = users.encode(self.train.users.ids), items.encode(self.train.items.ids)
        user, item = user_of[self.train.user_index], item_of[self.train.item_index]
        known = (user >= 0) & (item >= 0)
        weight = self.train.weight
        train = Interactions(users, items, user[known], item[known], None if weight is None else weight[known])
        held_out = self.held_out.reindex(user_of, item_of)
        validation = None if self.validation is None else self.validation.reindex(user_of, item_of)
        left_out = int((~known).sum()) + len(self.held_out) - len(held_out)
        if self.validation is not None and validation is not None:
            left_out += len(self.validation) - len(validation)
        if left_out:
            log.warning("%d interactions with ids this run was not trained on are left out", left_out)
        return Split(train, held_out, validation)


def load_split(
    path: Path,
    columns: Columns | None = None,
    seed: int = 0,
    held_out: int = 1,
    min_user_interactions: int = 1,
    min_item_interactions: int = 1,
) -> Split:
    """The split of a file, made here, or of a folder: one of `ncf prepare` or in the NCF paper's format.

    Of a file each user's latest `held_out` items are held out, after users and items with too few interactions were
    left out. A folder has its own split; that of a prepared one is mapped, not read. Raises InputError for what cannot
    be read or split.
    """
    options = check_options(held_out, min_user_interactions, min_item_interactions)
    if path.is_dir():
        return _load_folder(path, {name: value for name, value in options.items() if value != 1})
    interactions = read_interactions(path, columns)
    core = k_core(interactions, min_user_interactions, min_item_interactions)
    if core is not interactions:
        where = with_minima(path, min_user_interactions, min_item_interactions)
        require_two(core.users, core.items, count_indices(core.user_index, core.num_users), where)
    split = leave_one_out(core, seed, held_out)
    require_held_out(len(split.held_out))
    return split


def check_options(held_out: int, min_user_interactions: int, min_item_interactions: int) -> dict[str, int]:
    """The options of a split by name. Raises InputError for one below 1."""
    options = {
        "held_out": held_out,
        "min_user_interactions": min_user_interactions,
        "min_item_interactions": min_item_interactions,
    }
    for name, value in options.items():
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")
    return options


def require_held_out(num: int) -> None:
    if num == 0:
        raise InputError("no user has two different items, so nothing can be held out; give more interactions")


def _load_folder(folder: Path, options: dict[str, int]) -> Split:
    """The split of a folder; `options` are those that are not left open, which it has to agree with."""
    prepared = open_prepared(folder) if is_prepared(folder) else None
    own = {} if prepared is None else asdict(prepared.manifest)
    if other := [f"{name} = {value}" for name, value in options.items() if value != own.get(name)]:
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


def leave_one_out(interactions: Interactions, seed: int = 0, held_out: int = 1) -> Split:
    """Hold out each user's latest item, or a random one (seeded) where there are no timestamps.

    With `held_out` above 1 so many items a user. A user keeps at least one interaction for training; one who has a
    single interaction is not evaluated.
    """
    user, item = interactions.user_index, interactions.item_index
    order_within = random_order(user, item, seed) if interactions.timestamp is None else interactions.timestamp
    # Then by position in the file, so that a tie goes to the later row.
    held, _ = latest_rows(user, (order_within, np.arange(len(user))), held_out)
    keep = np.ones(len(user), bool)
    keep[held] = False
    return Split(interactions.take(keep), HeldOut(user[held], item[held]))


def latest_rows(user_index: IntArray, keys: Sequence[npt.NDArray[Any]], num: int) -> tuple[IntArray, IntArray]:
    """Of each user the last `num` rows by the keys [N] each, and the row before them; rows of a user in their order.

    The first row of a user is in neither: something has to be left to train on.
    """
    table = pl.DataFrame({"user": user_index, **{str(number): key for number, key in enumerate(keys)}})
    order = table.select(pl.arg_sort_by(table.columns)).to_series().to_numpy()  # two to four times np.lexsort's speed
    user = user_index[order]
    place = np.arange(len(user))
    first = np.flatnonzero(np.append(True, user[1:] != user[:-1])[: len(user)])
    counts = np.diff(np.append(first, len(user)))
    later = np.repeat(first + counts, counts) - 1 - place
    not_first = place > np.repeat(first, counts)
    return order[(later < num) & not_first], order[(later == num) & not_first]


def random_order(user_index: IntArray, item_index: IntArray, seed: int) -> npt.NDArray[np.uint64]:
    """A number for each pair [N], random but always the same for a pair and a seed, and different for two pairs.

    Not drawn row by row: the choice of a held-out item then depends neither on the order of the rows nor on which
    others are there (the finaliser of SplitMix64, Steele et al. 2014, which is a bijection).
    """
    value = (user_index.astype(np.uint64) << np.uint64(32)) + item_index.astype(np.uint64)
    value += np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value ^= value >> np.uint64(shift)
        value *= np.uint64(factor)
    return value ^ (value >> np.uint64(31))


def read_paper_folder(folder: Path) -> Split:
    """The split and the negatives of a folder in the format of the NCF paper's repository.

    Three tab-separated files without header: `*.train.rating` and `*.test.rating` (user, item, rating, timestamp) and
    `*.test.negative` (`(user,item)`, then its negatives; row n belongs to row n of the test ratings).
    """
    paths = [_only_one(folder, pattern) for pattern in PAPER_FILES]
    train, test = (_read_pairs(path) for path in paths[:2])
    negatives = _read_text(paths[2])
    user, item, *others = negatives.columns
    if not others:
        raise InputError(f"{paths[2]} holds no negatives; a row is (user,item) and then its negatives, tab-separated")
    if len(negatives) != len(test):
        raise InputError(f"{paths[2]} has {len(negatives)} rows and {paths[1]} has {len(test)}; they must agree")
    wrong = (negatives[user] != test["user"]) | (negatives[item] != test["item"])
    if wrong.fill_null(True).any():
        row = int(wrong.fill_null(True).arg_true()[0])
        found = f"({negatives[user][row]},{negatives[item][row]})"
        raise InputError(
            f"{paths[2]}: row {row + 1} is for {found}, the test rating for ({test['user'][row]},{test['item'][row]})"
        )
    users = IdIndex.of(pl.concat([train["user"], test["user"]]))
    pool = pl.concat([train["item"], test["item"], *(negatives[name].drop_nulls() for name in others)])
    items = IdIndex.of(pool)
    columns = [items.encode(negatives[name].fill_null(-1)) for name in others]
    held_out = HeldOut(users.encode(test["user"]), items.encode(test["item"]), np.stack(columns, axis=1))
    leaked = len(train.join(test, on=["user", "item"], how="semi"))
    if leaked:
        log.warning("%d held-out pairs stand in %s as well and are left out of training", leaked, paths[0])
        train = train.join(test, on=["user", "item"], how="anti", maintain_order="left")
    if train["timestamp"].n_unique() == 1:  # a constant says nothing about order
        train = train.drop("timestamp")
    interactions = from_table(train, users, items)
    require_two(users, items, count_indices(interactions.user_index, len(users)), folder)
    return Split(interactions, held_out)


def _only_one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        many = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"{folder} needs exactly one file named {pattern} (found: {many}); a folder given to --data is in the "
            f"NCF paper's format: {', '.join(PAPER_FILES)}"
        )
    return found[0]


def _read_pairs(path: Path) -> pl.DataFrame:
    names = ["user", "item", "rating", "timestamp"]
    try:
        frame = pl.read_csv(path, separator="\t", has_header=False, new_columns=names, infer_schema_length=None)
        table = frame.select(pl.col("user", "item", "timestamp").cast(pl.Int64))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected rows of user, item, rating, timestamp, tab-separated: {reason}") from error
    if table.null_count().sum_horizontal()[0]:
        row = int(table.select(pl.any_horizontal(pl.all().is_null())).to_series().arg_true()[0]) + 1
        raise InputError(f"{path}: row {row} lacks a user, an item or a timestamp; a row has four fields")
    return table


def _read_text(path: Path) -> pl.DataFrame:
    """Columns user, item, 0, 1, … of a `*.test.negative` file."""
    try:
        frame = pl.read_csv(path, separator="\t", has_header=False, infer_schema=False)
        first, *others = frame.columns
        pair = frame[first].str.extract_groups(r"^\((\d+),(\d+)\)$").struct.rename_fields(["user", "item"])
        numbers = frame.select(pl.col(others).str.strip_chars().replace("", None).cast(pl.Int64))
        return pair.struct.unnest().cast(pl.Int64).hstack(numbers)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected rows of (user,item) and negatives, tab-separated: {reason}") from error
