"""Data that are searched in less than a second a trial, and a search of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.conftest import made_once
from tests.ncf.tuning.searches import find


@pytest.fixture(scope="session")
def small_csv(food_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.csv"
    pl.read_csv(food_csv).filter(pl.col("user_id").str.slice(1).cast(pl.Int64) < 300).write_csv(path)
    return path


@pytest.fixture(scope="session")
def undisturbed(small_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search that was not interrupted; a test that changes it takes a copy."""
    return made_once(tmp_path_factory, "search", lambda folder: find(small_csv, folder))
