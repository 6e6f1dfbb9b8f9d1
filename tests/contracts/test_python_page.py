"""The blocks of docs/python.md and the cells of the example run, in their order."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
PAGE, NOTEBOOK = ROOT / "docs" / "python.md", ROOT / "examples" / "first_model.ipynb"


def run_all(blocks: list[str], where: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(where), "exec"), names)
    return names


def test_every_block_of_the_page_runs(food_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(food_csv, tmp_path / "food.csv")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    run_all(blocks, PAGE)
    assert (tmp_path / "model_repository" / "my_model_query" / "1" / "model.pt").exists()


def test_every_cell_of_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells)
    names = run_all(["".join(cell["source"]) for cell in cells], NOTEBOOK)
    table: pl.DataFrame = names["comparison"].table().filter(protocol="full")
    by = dict(zip(table["scorer"], table["NDCG@10"], strict=True))
    assert by["model"] > 2 * by["popularity"]  # the users of the data have a taste
    assert (tmp_path / "model_repository" / "ncf_food_model" / "config.pbtxt").exists()
