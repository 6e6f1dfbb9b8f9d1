"""The encoding of a table of features: which columns and values there are, and the ids of a model as values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from ncf.data.interactions import FloatArray, IdIndex, IntArray
from ncf.errors import InputError
from ncf.features.columns import FeatureColumn, find_column
from ncf.features.table import FeatureTable, read_features
from ncf.files.reading import Columns


@dataclass(frozen=True)
class FeatureValues:
    """The values of n ids as CSR: those of id i are value[indptr[i]:indptr[i + 1]], with their weights.

    `indptr` int64 [n + 1], `value` int64 [N], `weight` float32 [N]. Every id has value 0 with weight 1.
    """

    indptr: IntArray
    value: IntArray
    weight: FloatArray
    num_values: int


@dataclass(frozen=True)
class Encoding:
    """The columns of a table of features, in order; column by column they number the values from 1."""

    columns: tuple[FeatureColumn, ...]

    @property
    def num_values(self) -> int:
        return 1 + sum(column.num_values for column in self.columns)

    def encode(self, table: pl.DataFrame, row: IntArray) -> FeatureValues:
        """The values of ids whose rows in the table are `row` [n], -1 for an id without one.

        Raises InputError if the table lacks a column.
        """
        parts = [pl.DataFrame({"id": np.arange(len(row)), "value": np.zeros(len(row), np.int64),
                               "weight": np.ones(len(row), np.float32)})]  # fmt: skip
        id_of = pl.DataFrame({"row": row, "id": np.arange(len(row))})
        first = 1
        for column in self.columns:
            if column.name not in table.columns:
                raise InputError(
                    f"the features have no column '{column.name}', which the model was trained with; they have "
                    f"{', '.join(table.columns)}"
                )
            cells = column.encode(table[column.name]).with_columns(pl.col("value") + first)
            parts.append(cells.join(id_of, on="row").select("id", "value", "weight"))
            first += column.num_values
        found = pl.concat(parts).sort("id", maintain_order=True)
        counts = np.bincount(found["id"].to_numpy(), minlength=len(row))
        indptr = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
        value, weight = (found[name].to_numpy(writable=True) for name in ("value", "weight"))
        return FeatureValues(indptr, value, weight, self.num_values)

    def to_dict(self) -> dict[str, Any]:
        return {"columns": [asdict(column) for column in self.columns]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Encoding:
        """The encoding that `to_dict` wrote, also through JSON."""
        return cls(tuple(
            FeatureColumn(each["name"], each["kind"], tuple(each["values"]), tuple(each["knots"]))
            for each in values["columns"]
        ))  # fmt: skip


@dataclass(frozen=True)
class SideFeatures:
    """The features of a model's users or items: how they are encoded, their values, and what to tell the user."""

    encoding: Encoding
    values: FeatureValues
    look: tuple[str, ...]


def side_features(table: FeatureTable, index: IdIndex, what: str) -> SideFeatures:
    """Find the columns that say something about the ids of the data, and encode these. Raises InputError if none does.

    Ids of the table that are not in the data are left out, ids of the data without a row have no features; both are
    said.
    """
    row = IdIndex(table.ids).encode(index.ids)
    known = np.zeros(len(table.ids), bool)
    known[row[row >= 0]] = True
    if not known.any():
        raise InputError(
            f"{table.shown} has none of the {len(index):,} {what}s of the data: an id there is '{table.ids[0]}', one "
            f"of the data '{index.ids[0]}'; give the ids of the data"
        )
    columns, words = [], []
    for name in table.columns.columns:
        column, said = find_column(table.columns[name], known, table.shown)
        words.append(said)
        if column is not None:
            columns.append(column)
    if not columns:
        raise InputError(f"{table.shown} has no column that tells one {what} from another ({'; '.join(words)})")
    look = [f"features of {what}s from {table.shown}: {'; '.join(words)}"]
    if without := int((row < 0).sum()):
        look.append(f"{without:,} of {len(index):,} {what}s of the data have no features, and learn by their id alone")
    if strangers := int((~known).sum()):
        look.append(f"{strangers:,} {what}s of {table.shown} are not in the data, and are left out of the training")
    encoding = Encoding(tuple(columns))
    return SideFeatures(encoding, encoding.encode(table.columns, row), tuple(look))


@dataclass(frozen=True)
class Features:
    """The features of a model's users and of its items; None for those without."""

    users: SideFeatures | None
    items: SideFeatures | None

    @property
    def look(self) -> tuple[str, ...]:
        """What to tell the user about them."""
        return tuple(line for side in (self.items, self.users) if side is not None for line in side.look)

    @property
    def fingerprint(self) -> str:
        """A digest of both: a training is only continued with the same features."""
        digest = hashlib.blake2b(digest_size=8)
        for side in (self.users, self.items):
            if side is not None:
                digest.update(json.dumps(side.encoding.to_dict()).encode())
                for array in (side.values.indptr, side.values.value, side.values.weight):
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


# The features of users and of items by their ids.
FindFeatures = Callable[[IdIndex, IdIndex], Features | None]


def no_features(users: IdIndex, items: IdIndex) -> Features | None:
    """What a training without features knows."""
    return None


def find_features(
    user_source: Any, item_source: Any, columns: Columns, users: IdIndex, items: IdIndex
) -> Features | None:
    """The features from paths or frames, None for those that are not given; None without any. Raises InputError."""
    if user_source is None and item_source is None:
        return None

    def side(source: Any, what: str, index: IdIndex) -> SideFeatures | None:
        if source is None:
            return None
        return side_features(read_features(source, what, columns, f"--{what}-features"), index, what)

    return Features(side(user_source, "user", users), side(item_source, "item", items))
