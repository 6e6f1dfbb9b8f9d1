"""Splits: what is trained on and what is held out (leave one out, arXiv 1708.05031)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ncf.errors import InputError
from ncf.interactions import Columns, IdIndex, IntArray, Interactions, from_table, read_interactions, require_two

log = logging.getLogger(__name__)

PAPER_FILES = ("*.train.rating", "*.test.rating", "*.test.negative")


@dataclass(frozen=True)
class HeldOut:
    """One held-out item a user: `user_index`, `item_index` int64 [T]; `negatives` int64 [T, C] where the data has them.

    A negative of -1 is a padding and counts for nothing.
    """

    user_index: IntArray
    item_index: IntArray
    negatives: IntArray | None = None

    def __len__(self) -> int:
        return len(self.user_index)


@dataclass(frozen=True)
class Split:
    """Training interactions and what is held out of them; both speak of the same users and items."""

    train: Interactions
    held_out: HeldOut

    def reindex(self, users: IdIndex, items: IdIndex) -> Split:
        """The same split in the indices of other users and items; rows with ids unknown there are left out."""
        if self.train.users.ids.equals(users.ids) and self.train.items.ids.equals(items.ids):
            return self
        user_of, item_of = users.encode(self.train.users.ids), items.encode(self.train.items.ids)
        user, item = user_of[self.train.user_index], item_of[self.train.item_index]
        known = (user >= 0) & (item >= 0)
        weight = self.train.weight
        train = Interactions(users, items, user[known], item[known], None if weight is None else weight[known])
        user, item = user_of[self.held_out.user_index], item_of[self.held_out.item_index]
        kept = (user >= 0) & (item >= 0)
        negatives = self.held_out.negatives
        if negatives is not None:
            negatives = np.where(negatives >= 0, item_of[negatives], -1)[kept]
        left_out = int((~known).sum() + (~kept).sum())
        if left_out:
            log.warning("%d interactions with ids this run was not trained on are left out", left_out)
        return Split(train, HeldOut(user[kept], item[kept], negatives))


def load_split(path: Path, columns: Columns | None = None, seed: int = 0) -> Split:
    """The split of a file (leave one out, made here) or of a folder in the NCF paper's format (its own).

    Raises InputError for what cannot be read or split.
    """
    if path.is_dir():
        return read_paper_folder(path)
    split = leave_one_out(read_interactions(path, columns), seed)
    if len(split.held_out) == 0:
        raise InputError("no user has two different items, so nothing can be held out; give more interactions")
    return split


def leave_one_out(interactions: Interactions, seed: int = 0) -> Split:
    """Hold out each user's latest item, or a random one (seeded) where there are no timestamps.

    A user with a single interaction keeps it for training and is not evaluated.
    """
    random = np.random.default_rng(seed).random(len(interactions))
    order_within = random if interactions.timestamp is None else interactions.timestamp
    # Last key sorts first: by user, then by time, then by position in the file, so that a tie goes to the later row.
    order = np.lexsort((np.arange(len(interactions)), order_within, interactions.user_index))
    user = interactions.user_index[order]
    last = np.append(user[1:] != user[:-1], True)
    several = np.bincount(user, minlength=interactions.num_users)[user] > 1
    held = order[last & several]
    keep = np.ones(len(interactions), bool)
    keep[held] = False
    return Split(
        interactions.take(keep),
        HeldOut(interactions.user_index[held], interactions.item_index[held]),
    )


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
    require_two(interactions, folder)
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
