"""Read a split in the format of the NCF paper's repository."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl

from ncf.data.interactions import IdIndex, count_indices, from_table, require_two
from ncf.data.splits import HeldOut, Split
from ncf.errors import InputError

log = logging.getLogger(__name__)

PAPER_FILES = ("*.train.rating", "*.test.rating", "*.test.negative")


def read_paper_folder(folder: Path) -> Split:
    """Read the split and the negatives of a folder in the format of the NCF paper's repository.

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
        log.warning("%d held-out pairs are in %s as well and are left out of training", leaked, paths[0])
        train = train.join(test, on=["user", "item"], how="anti", maintain_order="left")
    if train["timestamp"].n_unique() == 1:  # a constant timestamp says nothing about the order
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
    """A `*.test.negative` file as columns user, item, 0, 1, …"""
    try:
        frame = pl.read_csv(path, separator="\t", has_header=False, infer_schema=False)
        first, *others = frame.columns
        pair = frame[first].str.extract_groups(r"^\((\d+),(\d+)\)$").struct.rename_fields(["user", "item"])
        numbers = frame.select(pl.col(others).str.strip_chars().replace("", None).cast(pl.Int64))
        return pair.struct.unnest().cast(pl.Int64).hstack(numbers)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected rows of (user,item) and negatives, tab-separated: {reason}") from error
