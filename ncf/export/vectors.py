"""Vectors of users and items whose inner product ranks as the model does, for a vector index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ncf.errors import InputError
from ncf.training.run_directory import Run


def vectors(run: Run) -> tuple[Tensor, Tensor]:
    """float32 [num_users, D + 1] and [num_items, D + 1]; their inner product is the score.

    The item's factors are multiplied by the prediction weights; the last place is 1 and the item's bias. Raises
    InputError for a model with an MLP, whose score is no inner product.
    """
    if run.config.model != "gmf":
        raise InputError(
            f"the model is {run.config.model}, whose score comes from a network and is no inner product of vectors; "
            "train a gmf"
        )
    catalogue = run.model.catalogue()
    every = torch.arange(len(run.users))
    with torch.inference_mode():
        (user,) = catalogue.embeddings(every)
        item = torch.cat([part.items() for part in catalogue.parts], 1)  # type: ignore[operator]
        return torch.cat([user, torch.ones(len(user), 1)], 1), torch.cat([item, catalogue.bias.unsqueeze(1)], 1)


def write_vectors(run: Run, folder: Path) -> tuple[int, int, int]:
    """Write the vectors as Parquet and .npy into a new folder; returns numbers of users and items, and the size."""
    found = vectors(run)
    try:
        folder.mkdir(parents=True)
        for name, ids, rows in zip(("user", "item"), (run.users.ids, run.items.ids), found, strict=True):
            column = pl.Series("vector", rows.numpy(), dtype=pl.Array(pl.Float32, rows.shape[1]))
            pl.DataFrame({f"{name}_id": ids, "vector": column}).write_parquet(folder / f"{name}s.parquet")
            np.save(folder / f"{name}s.npy", rows.numpy())
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}; choose another --output") from error
    return len(run.users), len(run.items), found[0].shape[1]
