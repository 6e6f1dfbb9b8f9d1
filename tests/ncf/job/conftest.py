"""A job's folder, and the split of one file with the rows of tests/support/jobs.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncf.data.load import load_split
from ncf.data.splits import Split
from tests.support.jobs import ROWS, Job, table


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "ml")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def one_file(tmp_path: Path) -> Split:
    path = tmp_path / "one.csv"
    path.write_text(table(ROWS))
    return load_split(path)
