"""One version of a recommender, opened: its parts, the ids of its users and items, and its items' columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.recommend.id_files import Column, IdFile, read_counts


def part_names(name: str) -> tuple[str, str, str]:
    """A recommender's models: one scores pairs, one ranks the whole catalogue, and one ranks it under conditions."""
    return name, f"{name}_topk", f"{name}_query"


@dataclass(frozen=True)
class Part:
    """One of a recommender's models in Triton, and the most rows that a request to it may have."""

    model_name: str
    max_batch_size: int


@dataclass(frozen=True)
class Recommender:
    """One version of a recommender.

    `score`, `topk` and `query` are its models in Triton, `k` is the number of items that the last two return, `counts`
    [items] how often each item was interacted with, `columns` the items' metadata: by name a column's number in a query
    and its values.
    """

    name: str
    version: str
    k: int
    score: Part
    topk: Part
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
        max_batch_size: dict[str, int],
        parts: Sequence[str] | None = None,
    ) -> Recommender:
        """Open a version. `max_batch_size` has the most rows of each part; `parts` are Triton's names of the parts
        where they differ from `part_names`.

        Raises OSError, ValueError, KeyError or TypeError if its files are not whole.
        """
        folder = repository / name / str(version)
        described = describe(folder)
        items = IdFile(folder / "items.ids")
        score, topk, query = (Part(part, max_batch_size[part]) for part in parts or part_names(name))
        columns = {
            column["name"]: (number, Column(folder, number, column["name"], column["kind"], len(items)))
            for number, column in enumerate(described["columns"])
        }
        return cls(
            name,
            str(version),
            described["k"],
            score,
            topk,
            query,
            IdFile(folder / "users.ids"),
            items,
            read_counts(folder / "items.counts", len(items)),
            columns,
        )


def describe(folder: Path) -> dict[str, Any]:
    """A version's recommender.json. Raises OSError, ValueError, KeyError or TypeError."""
    described = json.loads((folder / "recommender.json").read_text())
    if not isinstance(described, dict):
        raise ValueError("recommender.json holds no object; export the run again")
    if "query_model" not in described:
        raise ValueError("it was exported by an older ncf; export the run again")
    return {key: described[key] for key in ("topk_model", "query_model", "k", "columns")}
