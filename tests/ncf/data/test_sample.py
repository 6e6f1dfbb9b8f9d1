from __future__ import annotations

from pathlib import Path

import polars as pl

from ncf.data.sample import CATALOGUES, FAVOURITE, MAX_INTERACTIONS, MIN_INTERACTIONS, generate
from tests.conftest import run_ncf


def test_the_planted_taste_is_there() -> None:
    for catalogue in CATALOGUES.values():
        frame = generate(catalogue)
        assert frame.equals(generate(catalogue))  # seeded
        assert frame.select("user_id", "item_id").is_unique().all()
        group = pl.col("item_id").str.split("-").list.first()
        most = group.value_counts(sort=True).first().struct.field("count")
        per_user = frame.group_by("user_id").agg(pl.len(), top=most)
        assert len(per_user) == catalogue.num_users
        assert per_user["len"].min() == MIN_INTERACTIONS
        assert per_user["len"].max() == MAX_INTERACTIONS
        share = (per_user["top"] / per_user["len"]).mean()
        assert isinstance(share, float)
        # Without replacement a favourite group of some 30 items runs a little dry, so the share lies below FAVOURITE.
        assert FAVOURITE - 0.15 < share < FAVOURITE + 0.1


def test_the_command_writes_every_format_and_overwrites_nothing(tmp_path: Path) -> None:
    for name in ("f.csv", "f.tsv", "f.parquet"):
        ended = run_ncf("sample", "food", "--output", tmp_path / name)
        assert ended.returncode == 0
        assert "30,153 interactions of 1,200 users with 300 items" in ended.stdout
    again = run_ncf("sample", "food", "--output", tmp_path / "f.csv")
    assert again.returncode == 2
    assert "exists already" in again.stderr
    wrong = run_ncf("sample", "food", "--output", tmp_path / "f.xlsx")
    assert wrong.returncode == 2
    assert "choose .csv, .tsv, .parquet" in wrong.stderr
