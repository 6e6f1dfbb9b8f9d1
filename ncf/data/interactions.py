"""Interactions: who did something with what, as indices with the raw ids beside them."""

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

IntArray = npt.NDArray[np.signedinteger[Any]]  # int64; int32 where a prepared folder is mapped
FloatArray = npt.NDArray[np.float32]

ROWS_AT_ONCE = 2**22  # of arrays that are too large to be copied


@dataclass(frozen=True)
class Columns:
    """Header names of the four columns; `weight` and `timestamp` are used where the file has them."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    weight: str = "weight"
    timestamp: str = "timestamp"


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
        """Indices [N] of raw ids [N], compared as strings; -1 stands for an id that is not here."""
        table = pl.DataFrame({"id": self.ids.cast(pl.String), "index": np.arange(len(self.ids), dtype=np.int64)})
        wanted = pl.DataFrame({"id": raw.cast(pl.String)})
        found = wanted.join(table, on="id", how="left", maintain_order="left")["index"]
        return found.fill_null(-1).to_numpy(writable=True)

    def decode(self, index: list[int] | IntArray) -> list[int | str]:
        """Raw ids of indices, as they were in the data."""
        return self.ids.gather(index).to_list()


@dataclass(frozen=True)
class Interactions:
    """Distinct (user, item) pairs.

    `user_index`, `item_index` int64 or int32 [N]; `weight` float32 [N] or None (all one); `timestamp` [N] or None,
    ascending with time in any unit. `indptr` int64 [num_users + 1] says that rows are sorted by user, then by item:
    those of user u are indptr[u]..indptr[u+1]. Arrays may be maps of files: nothing but `take` copies them whole.
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
        """Interactions an item, int64 [num_items]."""
        return count_indices(self.item_index, self.num_items)


def count_indices(index: IntArray, size: int) -> npt.NDArray[np.int64]:
    """How often each of 0..size-1 stands in `index`, int64 [size]."""
    counts = np.zeros(size, np.int64)
    for start in range(0, len(index), ROWS_AT_ONCE):  # bincount makes int64 of what it is given
        counts += np.bincount(index[start : start + ROWS_AT_ONCE], minlength=size)
    return counts


def from_table(table: pl.DataFrame, users: IdIndex | None = None, items: IdIndex | None = None) -> Interactions:
    """Interactions from columns user, item and optional weight, timestamp; of a repeated pair the latest stays."""
    rows = len(table)
    if "timestamp" in table.columns:
        table = table.sort("timestamp", maintain_order=True)
    table = table.unique(["user", "item"], keep="last", maintain_order=True)
    if len(table) < rows:
        log.warning("%d repeated (user, item) pairs: of each the latest is kept", rows - len(table))
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


def require_two(users: IdIndex, items: IdIndex, counts: IntArray, where: Path | str) -> None:
    """Raises InputError where there is nothing to learn or to recommend; warns of users who have every item.

    `counts` [num_users] are the different items of each user.
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
            "user '%s'%s has every item: nothing can be recommended there, and no negative is drawn",
            users.ids[int(full[0])],
            f" and {len(full) - 1} more" if len(full) > 1 else "",
        )
