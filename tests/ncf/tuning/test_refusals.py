"""What a search refuses: another search's folder, other files in it, and settings that cannot be compared."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ncf.errors import InputError
from ncf.training.config import TrainConfig
from ncf.tuning import ranges
from ncf.tuning.search import Limits, search
from tests.ncf.tuning.searches import CONFIG, FIXED, TRIALS, copy, find
from tests.support.training import CPU, content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "is a search with seed 0, this one has 1; give the data and options of that search"),
        ({"l2": 0.01}, "is a search with l2 0.05, this one has 0.01"),
        ({"epochs": 7}, "is a search with epochs 8, this one has 7"),
    ],
)
def test_other_settings_are_refused(
    small_csv: Path, undisturbed: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = copy(undisturbed, tmp_path / "search")
    before = content(folder)
    with pytest.raises(InputError, match=message):
        find(small_csv, folder, config=replace(CONFIG, **change))
    assert content(folder) == before


def test_a_setting_that_is_no_longer_searched_is_refused(small_csv: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = copy(undisturbed, tmp_path / "search")
    with pytest.raises(InputError, match=r"with the range of dropout 0 to 0\.5, linear, this one has not given"):
        search([small_csv], folder, CONFIG, (*FIXED, "dropout"), CPU, Limits(TRIALS))


def test_other_data_are_refused(small_csv: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = copy(undisturbed, tmp_path / "search")
    fewer = tmp_path / "fewer.csv"
    pl.read_csv(small_csv)[:-20].write_csv(fewer)
    with pytest.raises(InputError, match=r"is a search with data [0-9a-f]{16}, this one has [0-9a-f]{16}"):
        find(fewer, folder)


def damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / "study.sqlite3").write_bytes(b"this is no database" * 100)


def foreign(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("precious")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (damaged, "study.sqlite3 is damaged, or no study"),
        (foreign, "exists already and holds no search; choose another --output"),
        (lambda folder: folder.write_text("a file"), "exists already and holds no search"),
    ],
)
def test_a_folder_with_anything_else_is_refused_and_stays(
    small_csv: Path, tmp_path: Path, make: Any, message: str
) -> None:
    make(tmp_path / "search")
    before = content(tmp_path)
    with pytest.raises(InputError, match=message):
        find(small_csv, tmp_path / "search", trials=1)
    assert content(tmp_path) == before


def test_a_folder_is_for_one_process_at_a_time(small_csv: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = copy(undisturbed, tmp_path / "search")
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another `ncf tune` works in"):
        find(small_csv, folder)
    os.close(descriptor)
    find(small_csv, folder)


@pytest.mark.parametrize(
    ("config", "fixed", "message"),
    [
        (replace(CONFIG, validation=0), (), "validation is 0, so there are no items to compare trials by"),
        (replace(CONFIG, members=2), (), "leave out members"),
        (TrainConfig(pretrain=True), (), "leave out members, closed_form, fold_factors and pretrain"),
        (CONFIG, [each.setting for each in ranges.RANGES["exact"]], "every setting that is searched is given"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_folder_is_made(
    small_csv: Path, tmp_path: Path, config: TrainConfig, fixed: Sequence[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        search([small_csv], tmp_path / "search", config, fixed, CPU, Limits(1))
    assert list(tmp_path.iterdir()) == []
