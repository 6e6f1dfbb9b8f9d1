"""Interactions of users with items: arrays of indices, and the raw ids that the indices stand for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.errors import InputError

log = logging.getLogger(__name__)

IntArray = npt.NDArray[np.signedinteger[Any]]  # int64; int32 in the arrays of a prepared folder
FloatArray = npt.NDArray[np.float32]

ROWS_AT_ONCE = 2**22  # rows of a mapped array that are copied at a time


@dataclass(frozen=True)
class IdIndex:
    """Raw ids and their indices 0..n-1: `ids[index]` is the raw id, String or Int64, unique and sorted."""

    ids: pl.Series

    @classmethod
    def of(cls, raw: pl.Series) -> IdIndex:
        return cls(raw.unique().sort())

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, kept: npt.NDArray[np.bool_]) -> IdIndex:
        """The ids where `kept` [n] is true, with new indices."""
        return IdIndex(self.ids.filter(pl.Series(kept)))

    def encode(self, raw: pl.Series) -> IntArray:
        """Indices [N] of raw ids [N], compared as strings; the index of an unknown id is -1."""
        table = pl.DataFrame({"id": self.ids.cast(pl.String), "index": np.arange(len(self.ids), dtype=np.int64)})
        wanted = pl.DataFrame({"id": raw.cast(pl.String)})
        found = wanted.join(table, on="id", how="left", maintain_order="left")["index"]
        return found.fill_null(-1).to_numpy(writable=True)

    def decode(self, index: list[int] | IntArray) -> list[int | str]:
        """The raw ids of indices, in the type that they have in the data."""
        return self.ids.gather(index).to_list()


@dataclass(frozen=True)
class Interactions:
    """Distinct (user, item) pairs.

    `user_index`, `item_index` int64 or int32 [N]; `weight` float32 [N] or None (every weight is 1); `timestamp` [N] or
    None, ascending with time in any unit. With `indptr` int64 [num_users + 1] the rows are sorted by user, then by
    item, and the rows of user u are indptr[u]..indptr[u+1]. Arrays may be memory maps: only `take` copies whole arrays.
    """

    users: IdIndex
    items: IdIndex
    user_index: IntArray
    item_index: IntArray
    weight: FloatArray | None = None
    timestamp: npt.NDArray[Any] | None = None
    indptr: IntArray | None = None

    def __post_init__(self) -> None:
        for values, size in ((self.user_index, len(self.users)), (self.item_index, len(self.items))):
            if len(values) and not (values.min() >= 0 and values.max() < size):
                raise ValueError(f"indices must lie in 0..{size - 1}")

    def __len__(self) -> int:
        return len(self.user_index)

    @property
    def num_users(self) -> int:
        return len(self.users)

    @property
    def num_items(self) -> int:
        return len(self.items)

    def take(self, rows: npt.NDArray[Any]) -> Interactions:
        """The interactions at `rows` (indices or a mask [N]); ids stay as they are."""
        return Interactions(
            self.users,
            self.items,
            self.user_index[rows],
            self.item_index[rows],
            None if self.weight is None else self.weight[rows],
            None if self.timestamp is None else self.timestamp[rows],
        )

    def popularity(self) -> IntArray:
        """The number of interactions of each item, int64 [num_items]."""
        return count_indices(self.item_index, self.num_items)


def count_indices(index: IntArray, size: int) -> npt.NDArray[np.int64]:
    """How often each of 0..size-1 occurs in `index`, int64 [size]."""
    counts = np.zeros(size, np.int64)
    for start in range(0, len(index), ROWS_AT_ONCE):  # bincount copies its argument to int64
        counts += np.bincount(index[start : start + ROWS_AT_ONCE], minlength=size)
    return counts


def joined(first: Interactions, second: Interactions, sum_repeats: bool = False) -> Interactions:
    """All interactions of both, of all their users and items; a part without weights has the mean weight of the other.

    Parts with the same ids have no pair in common. Of a pair that two parts with ids of their own share, the later row
    is kept, or both as one with the sum of their weights.
    """
    parts = (first, second)
    same = first.users is second.users and first.items is second.items
    users, items = (first.users, first.items) if same else map(_of_both, *((each.users, each.items) for each in parts))
    found: dict[str, npt.NDArray[Any]] = {}
    for name, index in (("user", users), ("item", items)):
        own = [(getattr(each, f"{name}s"), getattr(each, f"{name}_index")) for each in parts]
        found[name] = np.concatenate([at if same else index.encode(ids.ids)[at] for ids, at in own])
    if given := [each.weight for each in parts if each.weight is not None]:
        mean = given[0].mean(dtype=np.float64)
        weights = [np.full(len(each), mean) if each.weight is None else each.weight for each in parts]
        found["weight"] = np.concatenate(weights).astype(np.float32)
    if not any(each.timestamp is None for each in parts):
        found["time"] = np.concatenate([each.timestamp for each in parts if each.timestamp is not None])
    if not same:
        table = pl.DataFrame(found).with_row_index("row")
        table = latest_of_pairs(table, sum_repeats and "weight" in found)
        found = {name: table[name].to_numpy(writable=True) for name in found}
    return Interactions(users, items, found["user"], found["item"], found.get("weight"), found.get("time"))


def _of_both(one: IdIndex, other: IdIndex) -> IdIndex:
    return IdIndex.of(pl.concat(alike([one.ids, other.ids])))


def alike(parts: list[pl.Series]) -> list[pl.Series]:
    """Ids in one type: whole numbers if all parts are, else text."""
    kind = pl.Int64 if all(part.dtype == pl.Int64 for part in parts if len(part)) else pl.String
    return [part.cast(kind) for part in parts]


def from_table(table: pl.DataFrame, users: IdIndex | None = None, items: IdIndex | None = None) -> Interactions:
    """Interactions from the columns user and item, and weight and timestamp if there are any.

    The latest row of a repeated (user, item) pair is kept.
    """
    rows = len(table)
    if "timestamp" in table.columns:
        table = table.sort("timestamp", maintain_order=True)
    table = table.unique(["user", "item"], keep="last", maintain_order=True)
    if len(table) < rows:
        log.warning("%d repeated (user, item) pairs: the latest of each is kept", rows - len(table))
    users = users or IdIndex.of(table["user"])
    items = items or IdIndex.of(table["item"])
    return Interactions(
        users,
        items,
        users.encode(table["user"]),
        items.encode(table["item"]),
        table["weight"].to_numpy().astype(np.float32) if "weight" in table.columns else None,
        table["timestamp"].to_numpy() if "timestamp" in table.columns else None,
    )


def latest_of_pairs(table: pl.DataFrame, sum_repeats: bool = False) -> pl.DataFrame:
    """The latest row of each pair of indices `user` and `item`, in the order of `time`, if there is one, and `row`.

    `sum_repeats`: with the sum of the pair's weights. Sorting takes half of the memory of a hash table of the pairs.
    """
    order = [name for name in ("time", "row") if name in table.columns]
    table = table.sort("user", "item", *order)
    last = (pl.col("user") != pl.col("user").shift(-1)) | (pl.col("item") != pl.col("item").shift(-1))
    if sum_repeats:
        table = table.with_columns(pl.col("weight").sum().over("user", "item"))
    return table.filter(last.fill_null(True)).sort(order)


def require_two(users: IdIndex, items: IdIndex, counts: IntArray, where: Path | str) -> None:
    """Raises InputError if there is nothing to learn or to recommend; warns of users who have every item.

    `counts` [num_users] are the numbers of different items of the users.
    """
    for ids, word in ((users, "user"), (items, "item")):
        if len(ids) < 2:
            raise InputError(
                f"{where} holds one {word} only ('{ids.ids[0]}'); collaborative filtering compares {word}s, "
                "so it needs at least two"
            )
    full = np.flatnonzero(counts == len(items))
    if len(full) == len(users):
        raise InputError(
            f"in {where} every user has every item ({len(users)} × {len(items)}); "
            "there is nothing left to recommend and no negative to learn from"
        )
    if len(full):
        log.warning(
            "user '%s'%s has every item: there is nothing left to recommend, and no negative to draw",
            users.ids[int(full[0])],
            f" and {len(full) - 1} more" if len(full) > 1 else "",
        )
