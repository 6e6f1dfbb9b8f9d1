"""Read a split in the format of the NCF paper's repository."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl

from ncf.data.interactions import IdIndex, IntArray, count_indices, from_table, require_two
from ncf.data.lines import read_lines, require, require_ids
from ncf.data.splits import HeldOut, Split
from ncf.errors import InputError
from ncf.files.values import ids_of

log = logging.getLogger(__name__)

PAPER_FILES = ("*.train.rating", "*.test.rating", "*.test.negative")
ROW = "a row is user, item, rating and timestamp, separated by tabs"
NEGATIVES_ROW = (
    "a row is (user,item), as in the same row of the test ratings, and then its negatives, separated by tabs"
)
WHOLE = r"^(-?[0-9]+)\.0+$"


def read_paper_folder(folder: Path) -> Split:
    """Read the split and the negatives of a folder in the format of the NCF paper's repository.

    Tab-separated files without header: `*.train.rating` and `*.test.rating` (user, item, rating, timestamp) and, if
    there is one, `*.test.negative` (`(user,item)`, then its negatives; row n belongs to row n of the test ratings). Ids
    are numbers or text. Raises InputError that names the file, the line and the remedy.
    """
    paths = [_only_one(folder, pattern) for pattern in PAPER_FILES[:2]]
    train, test = (_read_pairs(path) for path in paths)
    path = _only_one(folder, PAPER_FILES[2]) if any(folder.glob(PAPER_FILES[2])) else None
    negatives = _read_negatives(path, test, paths[1]) if path else pl.DataFrame({"row": [], "item": []}, _NEGATIVES)
    ends = (len(train), len(test), len(negatives))
    in_train, in_test, in_negatives = (slice(sum(ends[:part]), sum(ends[: part + 1])) for part in range(3))
    user = ids_of(pl.concat([train["user"], test["user"]]))
    item = ids_of(pl.concat([train["item"], test["item"], negatives["item"]]))
    users, items = IdIndex.of(user), IdIndex.of(item)
    train = train.with_columns(user=user[in_train], item=item[in_train])
    test = test.with_columns(user=user[in_test], item=item[in_test])
    drawn = _table(negatives["row"], items.encode(item[in_negatives]), len(test)) if path else None
    held_out = HeldOut(users.encode(test["user"]), items.encode(test["item"]), drawn)
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
            f"{folder} needs exactly one file named {pattern} (found: {many}); a folder given to --data is one of `ncf "
            f"prepare`, or in the NCF paper's format ({', '.join(PAPER_FILES)}), or in LightGCN's (train.txt, test.txt)"
        )
    return found[0]


def _lines(path: Path, row: str) -> pl.DataFrame:
    parts = list(read_lines(path))
    if not sum(map(len, parts)):
        raise InputError(f"{path} has no rows; {row}")
    return pl.concat(parts)


def _read_pairs(path: Path) -> pl.DataFrame:
    """The ratings as text columns user and item, and timestamp, Int64 or Float64."""
    lines = _lines(path, ROW)
    names = ["user", "item", "rating", "timestamp", "more"]
    fields = lines["text"].str.split_exact("\t", 4).struct.rename_fields(names).struct.unnest()
    require(fields["timestamp"].is_not_null(), lines, path, f"there are fewer than four fields; {ROW}")
    require(fields["more"].is_null(), lines, path, f"there are more than four fields; {ROW}")
    table = fields.select(pl.col("user", "item", "timestamp").str.strip_chars())
    for name in ("user", "item"):
        require_ids(table[name], lines, path, name, ROW)
    time = table["timestamp"].cast(pl.Int64, strict=False)
    if time.null_count():
        time = table["timestamp"].cast(pl.Float64, strict=False)
        remedy = "write times as numbers, such as seconds since 1970"
        require(time.is_finite().fill_null(False), lines, path, f"the timestamp is not a number; {remedy}")
    return table.with_columns(timestamp=time)


_NEGATIVES = {"row": pl.UInt32, "item": pl.String}


def _read_negatives(path: Path, test: pl.DataFrame, ratings: Path) -> pl.DataFrame:
    """A `*.test.negative` file as columns row, of the test ratings, and item, as text."""
    lines = _lines(path, NEGATIVES_ROW)
    parts = lines["text"].str.split("\t")
    first = parts.list.first().str.strip_chars()
    groups = first.str.extract_groups(r"^\(\s*(.*?)\s*,\s*(.*?)\s*\)$")
    pair = groups.struct.rename_fields(["user", "item"]).struct.unnest()
    require(pair["user"].is_not_null(), lines, path, f"there is no (user,item) at its begin; {NEGATIVES_ROW}")
    if len(lines) != len(test):
        raise InputError(f"{path} has {len(lines):,} rows and {ratings} has {len(test):,}; each rating needs one row")
    same = pl.Series([True] * len(test))
    for name in ("user", "item"):
        same &= pair[name].str.replace(WHOLE, "${1}") == test[name].str.replace(WHOLE, "${1}")
    same |= first == test.select(pl.format("({},{})", "user", "item")).to_series()  # ids with a comma
    require(same, lines, path, f"the user or the item is another in the same row of {ratings.name}; {NEGATIVES_ROW}")
    negatives = pl.DataFrame({"item": parts.list.slice(1)}).with_row_index("row").explode("item", empty_as_null=False)
    negatives = negatives.select("row", pl.col("item").str.strip_chars()).filter(pl.col("item") != "")
    require_ids(negatives["item"], lines, path, "negative", NEGATIVES_ROW, negatives["row"])
    if negatives.is_empty():
        raise InputError(f"{path} holds no negatives; {NEGATIVES_ROW}. To have them drawn, leave the file out")
    return negatives


def _table(row: pl.Series, item_index: IntArray, num_rows: int) -> IntArray:
    """Negatives with their ascending rows [N] as a table, int64 [num_rows, C], padded by -1."""
    at = row.to_numpy()
    counts = np.bincount(at, minlength=num_rows)
    place = np.arange(len(at)) - np.repeat(counts.cumsum() - counts, counts)
    table = np.full((num_rows, counts.max()), -1, np.int64)
    table[at, place] = item_index
    return table
