"""`ncf vectors`: files whose inner products are the model's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from ncf.commands.main import cli
from ncf.errors import InputError
from ncf.training.run_directory import Run


def test_products_are_the_scores(fashion_run: Run, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["vectors", "--run", str(fashion_run.path), "--output", str(tmp_path / "v")])
    assert result.exit_code == 0, result.output
    users, items = (np.load(tmp_path / "v" / f"{name}s.npy") for name in ("user", "item"))
    for name, rows, ids in (("user", users, fashion_run.users), ("item", items, fashion_run.items)):
        frame = pl.read_parquet(tmp_path / "v" / f"{name}s.parquet")
        assert frame[f"{name}_id"].to_list() == ids.ids.to_list()
        assert np.array_equal(frame["vector"].to_numpy(), rows)
    scores = fashion_run.model.catalogue()(fashion_run.known.indptr.new_tensor([3, 17])).detach().numpy()
    assert users[[3, 17]] @ items.T == pytest.approx(scores, abs=1e-5)


def test_a_folder_that_exists_is_left_alone(fashion_run: Run, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["vectors", "--run", str(fashion_run.path), "--output", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert "exists already" in str(result.exception)
