"""One version of a recommender, opened: its parts, the ids of its users and items, and its items' columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.recommend.id_files import FORMS, Column, IdFile, ListColumn, read_counts


@dataclass(frozen=True)
class Part:
    """One of a recommender's models in Triton, and the most rows that a request to it may have."""

    model_name: str
    max_batch_size: int


@dataclass(frozen=True)
class Recommender:
    """One version of a recommender.

    `score` and `query` are its models in Triton that `serve` asks, `k` is the number of items that the second returns,
    `counts` [items] how often each item was interacted with, `columns` the items' metadata: by name a column's number
    in a query and its values.
    """

    name: str
    version: str
    k: int
    score: Part
    query: Part
    users: IdFile
    items: IdFile
    counts: Sequence[int]
    columns: dict[str, tuple[int, Column]]

    @classmethod
    def open(
        cls,
        repository: Path,
        name: str,
        version: int,
        max_batch_size: Mapping[str, int],
        parts: Sequence[str],
    ) -> Recommender:
        """Open a version. `parts` are Triton's names of its parts, the one that scores pairs first and the one that
        takes queries last; `max_batch_size` has the most rows of each.

        Raises OSError, ValueError, KeyError or TypeError if its files are not whole.
        """
        folder = repository / name / str(version)
        described = describe(folder)
        items = IdFile(folder / "items.ids")
        score, query = (Part(part, max_batch_size[part]) for part in (parts[0], parts[-1]))
        return cls(
            name,
            str(version),
            described["k"],
            score,
            query,
            IdFile(folder / "users.ids"),
            items,
            read_counts(folder / "items.counts", len(items)),
            _open_columns(folder, described["columns"], len(items)),
        )


def _open_columns(
    folder: Path, described: Sequence[Mapping[str, str]], num_items: int
) -> dict[str, tuple[int, Column]]:
    """The columns by name, with the numbers that they have in a query: those with one value an item come first."""
    columns = [
        # Older exports have no form: an item had one value in each column.
        FORMS[each.get("form", "one")](folder, number, each["name"], each["kind"], num_items)
        for number, each in enumerate(described)
    ]
    in_query = sorted(columns, key=lambda column: isinstance(column, ListColumn))  # stable
    return {column.name: (in_query.index(column), column) for column in columns}


def describe(folder: Path) -> dict[str, Any]:
    """A version's recommender.json, and as `parts` the models that it names beside the recommender itself.

    Raises OSError, ValueError, KeyError or TypeError.
    """
    described = json.loads((folder / "recommender.json").read_text())
    if not isinstance(described, dict):
        raise ValueError("recommender.json holds no object; export the run again")
    if "query_model" not in described:
        raise ValueError("it was exported by an older ncf; export the run again")
    parts = [described[key] for key in ("topk_model", "query_model") if key in described]
    return {"parts": parts, "k": described["k"], "columns": described["columns"]}
