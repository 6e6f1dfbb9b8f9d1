"""Rank in this process with the module that `serve` asks, so that a notebook and a server give the same answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import torch
from torch import Tensor

from ncf.data.interactions import FloatArray, IdIndex, IntArray
from ncf.data.item_columns import ItemColumn
from ncf.errors import InputError
from ncf.export.export import query_module
from ncf.export.query import Query
from ncf.models.seen import seen_positions
from ncf.training.config import DEFAULT_K
from ncf.training.run_directory import Run

QUERIES_AT_ONCE = 4096
NO_VALUE, UNKNOWN_VALUE = -1, -3  # -2 stands for a query without a condition


@dataclass(frozen=True)
class Conditions:
    """What limits a ranking, in raw ids: `allow` None for every item; `where` are columns and their wanted values."""

    exclude: Sequence[object] = ()
    allow: Sequence[object] | None = None
    where: Mapping[str, object] | None = None
    exclude_seen: bool = True


class Ranker:
    """Rankings of the whole catalogue of a run; `columns` are the items' columns for `where`."""

    def __init__(self, run: Run, columns: Sequence[ItemColumn] = ()) -> None:
        self.run = run
        # The query numbers the columns with one value an item first.
        self.columns = sorted(columns, key=lambda column: column.starts is not None)
        self._module = query_module(run, len(run.items), columns).eval()

    def for_users(self, user_ids: Sequence[object], k: int, conditions: Conditions) -> tuple[IntArray, FloatArray]:
        """The k best items of each user: item_index int64 [U, k], -1 where there are fewer, and score float32 [U, k].

        A user who is unknown gets the most popular items, scored by their number of interactions.
        """
        index = index_of(self.run.users, user_ids)
        rows = self._conditions(conditions)
        return self._rank([[(Query.USER, user), *rows] for user in index.tolist()], k)

    def many(self, user: IntArray, k: int, conditions: Conditions) -> Iterator[tuple[Tensor, Tensor]]:
        """The k best items of many users by index, -1 for an unknown one, in blocks: items [B, k] and scores [B, k].

        The same as `for_users`, but the conditions, which are those of all users, are looked up once.
        """
        module, left_out = self._module, self._left_out(conditions)
        num_ranked = min(max(k, DEFAULT_K), module.num_items)
        for start in range(0, len(user), module.rows_at_once):
            part = torch.from_numpy(user[start : start + module.rows_at_once])
            with torch.inference_mode():
                known = part >= 0
                scores = module.catalogue(torch.where(known, part, 0))
                if not bool(known.all()):
                    scores = torch.where(known.unsqueeze(1), scores, module.popularity)
                if conditions.exclude_seen:
                    row, position = seen_positions(module.seen_indptr, torch.where(known, part, module.num_users))
                    scores[row, module.seen_items[position]] = module.lowest
                if left_out is not None:
                    scores[:, left_out] = module.lowest
                score, item = torch.topk(scores, num_ranked)
            yield torch.where(score == module.lowest, -1, item)[:, :k], score[:, :k]

    def _left_out(self, conditions: Conditions) -> Tensor | None:
        """The items that the conditions leave out for everybody; None without conditions."""
        if not conditions.exclude and conditions.allow is None and not conditions.where:
            return None
        every = replace(conditions, exclude_seen=False)
        kept, _ = self._rank([[(Query.USER, -1), *self._conditions(every)]], len(self.run.items))
        left_out = torch.ones(len(self.run.items), dtype=torch.bool)
        left_out[torch.from_numpy(kept[kept >= 0])] = False
        return torch.nonzero(left_out).squeeze(1)

    def for_history(self, item_ids: Sequence[object], k: int, conditions: Conditions) -> tuple[IntArray, FloatArray]:
        """The k best items of somebody who has these: as `for_users`, for one."""
        return self._rank([[*self._items(Query.HISTORY, item_ids), *self._conditions(conditions)]], k)

    def similar_to(self, item_ids: Sequence[object], k: int, conditions: Conditions) -> tuple[IntArray, FloatArray]:
        """The k items that are most like each item, by the cosine of their representations."""
        rows = self._conditions(conditions)
        return self._rank([[*self._items(Query.SIMILAR, [item]), *rows] for item in item_ids], k)

    def _items(self, kind: int, item_ids: Iterable[object]) -> list[tuple[int, int]]:
        index = index_of(self.run.items, list(item_ids))
        return [(kind, item) for item in index.tolist() if item >= 0]

    def _conditions(self, asked: Conditions) -> list[tuple[int, int]]:
        rows = self._items(Query.EXCLUDE, asked.exclude)
        if asked.allow is not None:
            rows += self._items(Query.ALLOW, asked.allow) or [(Query.ALLOW, -1)]
        if not asked.exclude_seen:
            rows.append((Query.INCLUDE_SEEN, 0))
        names = [column.name for column in self.columns]
        for name, value in (asked.where or {}).items():
            if name not in names:
                known = ", ".join(names) or "none: give the table of items"
                raise InputError(f"where names '{name}', which the items have no column for; their columns: {known}")
            number = names.index(name)
            rows.append((Query.WHERE + number, code_of(self.columns[number], value)))
        return rows

    def _rank(self, queries: Sequence[Sequence[tuple[int, int]]], k: int) -> tuple[IntArray, FloatArray]:
        module = self._module
        module.k = max(k, DEFAULT_K)  # as exported models, so that items of equal scores have the same order
        module.num_ranked = min(module.k, module.num_items)
        found: list[tuple[Tensor, Tensor]] = []
        with torch.inference_mode():
            for start in range(0, len(queries), QUERIES_AT_ONCE):
                part = queries[start : start + QUERIES_AT_ONCE]
                rows = torch.zeros(len(part), max(1, *map(len, part)), 2, dtype=torch.int64)
                for number, query in enumerate(part):
                    if query:
                        rows[number, : len(query)] = torch.tensor(query)
                found.append(module(rows))
        empty = torch.empty(0, k)
        item = torch.cat([each[0] for each in found]) if found else empty.long()
        score = torch.cat([each[1] for each in found]) if found else empty
        return item[:, :k].numpy(), score[:, :k].numpy()


def index_of(ids: IdIndex, raw: Sequence[object]) -> IntArray:
    """The index of each raw id, number or text, -1 for an unknown one."""
    return ids.encode(pl.Series([str(each) for each in raw], dtype=pl.String))


def code_of(column: ItemColumn, value: Any) -> int:
    """The code of a value as `serve` reads it in JSON: None is no value; 5, 5.0 and "5" are one number."""
    if value is None:
        return NO_VALUE
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if column.kind in ("number", "integer"):
        try:
            number = float(text)
        except ValueError:
            return UNKNOWN_VALUE
        if column.kind == "number":
            text = repr(number)
        elif number.is_integer() and abs(number) < 2**53:
            text = str(int(number))
    code = int(index_of(column.values, [text])[0])
    return code if code >= 0 else UNKNOWN_VALUE
