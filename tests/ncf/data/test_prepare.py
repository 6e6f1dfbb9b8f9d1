"""`ncf prepare`: the same split as in memory, from data of any size; the same words for bad data; nothing half-made."""

from __future__ import annotations

import logging
import signal
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import ncf.commands.prepare
import ncf.data.ranges
import ncf.files.source
from ncf.commands.main import cli
from ncf.data.interactions import Interactions
from ncf.data.load import load_split
from ncf.data.prepare import prepare
from ncf.data.protocols import leave_one_out
from ncf.data.splits import Split, SplitOptions
from ncf.errors import InputError
from ncf.files.reading import Columns
from tests.ncf.data.read import read


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncf.data.ranges, "ROWS_A_RANGE", 40)
    monkeypatch.setattr(ncf.files.source, "BATCH", 7)


def table(seed: int = 0, rows: int = 300) -> pl.DataFrame:
    """Repeated pairs, ties of time, users with one item."""
    random = np.random.default_rng(seed)
    user = np.append(random.integers(0, 30, rows), np.arange(30, 36))
    item = np.append(random.integers(0, 20, rows), random.integers(0, 20, 6))
    weight = random.integers(1, 9, len(user)) / 2
    return pl.DataFrame(
        {"user_id": user, "item_id": item, "weight": weight, "timestamp": random.integers(0, 9, len(user))}
    )


def rows_of(data: Interactions) -> set[tuple[Any, ...]]:
    weight = np.ones(len(data)) if data.weight is None else data.weight
    rows = list(zip(data.user_index.tolist(), data.item_index.tolist(), weight.tolist(), strict=True))
    assert len(set(rows)) == len(rows)
    return set(rows)


def assert_same(prepared: Split, whole: Split, seed: int) -> None:
    """`prepared` is `whole` with the hold-out for the choice of epoch cut off, as training cuts it."""
    fit = leave_one_out(whole.train, seed)
    train, validation = prepared.train, prepared.validation
    assert validation is not None
    assert train.users.ids.equals(whole.train.users.ids)
    assert train.items.ids.equals(whole.train.items.ids)
    assert rows_of(train) == rows_of(fit.train)
    for one, other in ((prepared.held_out, whole.held_out), (validation, fit.held_out)):
        assert np.array_equal(one.user_index, other.user_index)
        assert np.array_equal(one.item_index, other.item_index)
    key = np.asarray(train.user_index, np.int64) * train.num_items + train.item_index
    assert (np.diff(key) > 0).all()
    assert train.indptr is not None
    assert np.array_equal(np.diff(train.indptr), np.bincount(train.user_index, minlength=train.num_users))


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


FRAMES = {
    "all columns": lambda t: t,
    "no timestamps": lambda t: t.drop("timestamp"),
    "pairs only": lambda t: t.select("user_id", "item_id"),
    "text ids": lambda t: t.with_columns(pl.format("u {}é", "user_id").alias("user_id"), pl.format("0{}", "item_id")),
    "number-like text": lambda t: t.with_columns(item_id=pl.col("item_id").cast(pl.String).str.zfill(2)),
    "float ids": lambda t: t.with_columns(pl.col("user_id").cast(pl.Float64)),
    "float times": lambda t: t.with_columns(pl.col("timestamp") + 0.5),
    "dates": lambda t: t.with_columns(pl.date(2024, 1, 1) + pl.duration(days="timestamp")),
}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("kind", FRAMES)
def test_a_prepared_folder_and_its_file_give_the_same_split(tmp_path: Path, kind: str, suffix: str) -> None:
    frame = FRAMES[kind](table())
    path = write(frame, tmp_path / f"data.{suffix}")
    prepare([path], tmp_path / "prepared", SplitOptions(seed=5))
    assert_same(load_split(tmp_path / "prepared"), load_split(path, SplitOptions(seed=5)), seed=5)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"data.{suffix}", "prepared"]


@pytest.mark.parametrize("seed", range(12))
def test_the_options_mean_the_same(tmp_path: Path, seed: int) -> None:
    frame = table(seed, rows=150 + 40 * seed)
    path = write(frame.drop("timestamp") if seed % 3 == 0 else frame, tmp_path / "data.parquet")
    options = {"held_out": 1 + seed % 4, "min_user_interactions": 1 + seed % 5, "min_item_interactions": 1 + seed % 6}
    prepare([path], tmp_path / "prepared", SplitOptions(seed=seed, **options))
    assert_same(
        load_split(tmp_path / "prepared", SplitOptions(**options)),
        load_split(path, SplitOptions(seed=seed, **options)),
        seed,
    )


def test_several_files_are_one(tmp_path: Path) -> None:
    frame = table()
    whole = write(frame, tmp_path / "whole.parquet")
    parts = tmp_path / "parts"
    parts.mkdir()
    write(frame[:100].with_columns(pl.col("user_id").cast(pl.Float64)), parts / "a.parquet")
    write(frame[100:101].with_columns(pl.col("item_id").cast(pl.String).cast(pl.Categorical)), parts / "b.parquet")
    write(frame[101:200], parts / "c.tsv")
    (parts / "_SUCCESS").touch()
    (parts / "_committed.csv").touch()
    last = write(frame[200:].with_columns(pl.lit(date(2024, 1, 1)).alias("timestamp")), tmp_path / "d.parquet")
    with pytest.raises(InputError, match=r"the timestamps are whole numbers in .*a.parquet and dates in .*d.parquet"):
        prepare([parts, last], tmp_path / "prepared")
    write(frame[200:].with_columns(pl.col("timestamp").cast(pl.Float64)), last)
    prepare([parts, last], tmp_path / "prepared")
    assert_same(load_split(tmp_path / "prepared"), load_split(whole), seed=0)


def test_text_in_one_file_makes_text_of_all_ids(tmp_path: Path) -> None:
    parts = [write(table(seed), tmp_path / f"{seed}.csv") for seed in range(2)]
    write(table(1).with_columns(pl.format("x{}", "user_id").alias("user_id")), parts[1])
    prepare(parts, tmp_path / "prepared")
    ids = load_split(tmp_path / "prepared").train.users.ids
    assert ids.dtype == pl.String
    assert {"7", "x7"} <= set(ids)


@pytest.mark.parametrize("text", [
    "", "user_id,item_id\n", "who,item_id\na,x\n", "user_id,item_id,weight\na,x,1\nb,y,much\n",
    "user_id,item_id,weight\na,x,NaN\nb,y,1\n", "user_id,item_id,timestamp\na,x,1\nb,y,soon\n",
    "user_id,item_id,timestamp\na,x,2024-01-01\nb,y,soon\n",
    "user_id,item_id,timestamp\na,x,2024-01-01\nb,y,2024-13-01\n", "user_id,item_id\na,x\na,y\n,y\n,z\n",
    "user_id,item_id\na,\nb,y\n", "user_id,item_id\na,x\na,y\n", "user_id,item_id\na,x\nb,x\n",
    "user_id,item_id\na,x\nb,y\na,y\nb,x\n", f"user_id,item_id\na,x\nb,{'x' * 1025}\n", "user_id,item_id\na,x\nb,y\n",
])  # fmt: skip
def test_bad_data_are_refused_in_the_same_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(InputError) as whole:
        load_split(path)
    with pytest.raises(InputError) as streamed:
        prepare([path], tmp_path / "prepared")
    assert str(streamed.value) == str(whole.value)
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]


def test_bad_parquet_is_refused_in_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    for values in ([1.0, float("nan")], [1.0, 2.5], [1.0, None], [[1], [2]], [True, False]):
        pl.DataFrame({"user_id": values, "item_id": ["x", "y"]}).write_parquet(path)
        with pytest.raises(InputError) as whole:
            read(path)
        with pytest.raises(InputError) as streamed:
            prepare([path], tmp_path / "prepared")
        assert str(streamed.value) == str(whole.value)


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    output = tmp_path / "new" / "prepared"
    good = write(table(), tmp_path / "good.csv")
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("user_id,item_id\n" + "a,b\n" * 999 + "a,b,c,d\n")
    bare = write(table().drop("weight"), tmp_path / "bare.csv")
    for data, message in (
        ([tmp_path / "none.csv"], "does not exist"),
        ([ragged], "line 1,001 has more fields than the header has names"),
        ([good, bare], "bare.csv has no column 'weight' and"),
        ([good, good], "is given twice"),
    ):
        with pytest.raises(InputError, match=message):
            prepare(data, output)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file that ends in"):
        prepare([tmp_path / "empty"], output)
    with pytest.raises(InputError, match=r"no column 'who'; .* --user-column"):
        prepare([good], output, SplitOptions(Columns(user_id="who")))
    with pytest.raises(InputError, match="held_out is 0"):
        prepare([good], output, SplitOptions(held_out=0))
    with pytest.raises(InputError, match="no interaction is left"):
        prepare([good], output, SplitOptions(min_user_interactions=99))
    with pytest.raises(InputError, match="cannot write /proc/prepared"):
        prepare([good], Path("/proc/prepared"))
    assert not output.parent.exists()
    output.mkdir(parents=True)
    with pytest.raises(InputError, match="exists already; choose another --output"):
        prepare([good], output)


def test_repeated_pairs_and_what_the_core_leaves_out_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        made = prepare(
            [write(table(), tmp_path / "d.csv")], tmp_path / "prepared", SplitOptions(min_user_interactions=5)
        )
    assert "repeated pairs of user and item (the latest of each is kept)" in made.look[3]
    assert "6 of 36 users" in caplog.text


@pytest.mark.parametrize("phase", ["reading ids", "reading rows", "sorting", "counting", "writing"])
def test_an_interrupted_prepare_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    path = write(table(), tmp_path / "data.csv")

    def interrupt(self: object, what: str, done: int, total: int) -> None:
        if what == phase and done:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ncf.commands.prepare.PrepareProgress, "__call__", interrupt)
    before = signal.getsignal(signal.SIGTERM)
    result = CliRunner().invoke(cli, ["prepare", "--data", str(path), "--output", str(tmp_path / "prepared")])
    assert result.exit_code == 1
    assert signal.getsignal(signal.SIGTERM) is before
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]


def test_the_command_says_what_it_does_and_did(tmp_path: Path) -> None:
    path = write(table().rename({"user_id": "who"}), tmp_path / "data.csv")
    words = ["prepare", "--data", path, "--output", tmp_path / "prepared", "--user-column", "who", "--held-out", 2]
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    split = load_split(tmp_path / "prepared")
    assert f"{len(split.train):,} interactions to train on" in result.stdout
    assert f"{len(split.held_out):,} held out" in result.stdout
    for phase in ("reading ids", "reading rows", "sorting", "counting", "writing"):
        assert f"{phase}: done in" in result.stderr
