"""Searches of small data by the real Optuna: what they find and write, and how they continue."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data.load import load_split
from ncf.data.splits import HeldOut
from ncf.errors import InputError
from ncf.training.config import TrainConfig
from ncf.training.presets import configure
from ncf.training.run import train_run
from ncf.tuning import ranges
from ncf.tuning.ranges import Range
from ncf.tuning.search import Limits, search
from tests.conftest import BIN
from tests.ncf.tuning.searches import CONFIG, EPOCHS, FIXED, TRIALS, copy, find, table
from tests.support.eventually import eventually
from tests.support.training import CPU


def start(data: Path, folder: Path) -> subprocess.Popen[str]:
    preset = folder.with_name("start.json")
    preset.write_text('{"l2": 0.05}')
    options = [
        "--preset",
        str(preset),
        "--model",
        "gmf",
        "--num-factors",
        "8",
        "--negatives",
        "exact",
        "--epochs",
        str(EPOCHS),
    ]
    command = [BIN / "ncf", "tune", "--data", data, "--output", folder, "--trials", str(TRIALS), *options]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], pattern: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if re.match(pattern, line):
            return
    raise AssertionError(f"it ended without {pattern}")


@pytest.mark.core
def test_the_first_trial_has_the_given_settings_and_the_best_one_is_a_preset_that_trains_the_same(
    small_csv: Path, undisturbed: Path, tmp_path: Path
) -> None:
    trials = table(undisturbed)
    assert trials["trial"].to_list() == list(range(1, TRIALS + 1))
    first = trials.row(0, named=True)
    assert [first[name] for name in ("learning_rate", "l2", "dropout", "negative_weight")] == [0.03, 0.05, 0.1, 16.0]
    best = trials.filter(state="done").sort("ndcg_at_10", descending=True).row(0, named=True)
    assert best["ndcg_at_10"] > first["ndcg_at_10"]

    found = configure(str(undisturbed / "best.json"), {})
    assert (found.learning_rate, found.l2, found.num_factors) == (best["learning_rate"], best["l2"], 8)
    result = train_run(small_csv, tmp_path / "run", found, CPU)
    assert result is not None
    assert result.ndcg_at_10 == best["ndcg_at_10"]
    assert result.hit_rate_at_10 == best["hit_rate_at_10"]


def test_a_trial_that_is_behind_is_pruned(undisturbed: Path) -> None:
    pruned = table(undisturbed).filter(state="pruned")
    assert len(pruned) >= 1
    assert (pruned["epochs"] < EPOCHS).all()
    assert pruned["hit_rate_at_10"].null_count() == len(pruned)


def test_the_page_has_the_trials_and_plots_in_both_themes(undisturbed: Path) -> None:
    page = (undisturbed / "report.html").read_text()
    assert page.count("<figure>") == 2 + 4  # the course, the importance, and a plot for each searched setting
    assert page.count("data:image/png;base64,") == 2 * page.count("<figure>")
    assert f"{TRIALS} trials:" in page
    best = pl.read_csv(undisturbed / "trials.csv").filter(state="done")["ndcg_at_10"].max()
    assert f"<b>{best:.4f}</b>" in page


def test_a_search_in_two_parts_is_the_same_as_in_one(small_csv: Path, undisturbed: Path, tmp_path: Path) -> None:
    find(small_csv, tmp_path / "search", trials=4)
    find(small_csv, tmp_path / "search")
    assert table(tmp_path / "search").equals(table(undisturbed))
    assert (tmp_path / "search" / "best.json").read_bytes() == (undisturbed / "best.json").read_bytes()
    assert {path.name for path in (tmp_path / "search").iterdir()} == {
        "study.sqlite3", "trials.csv", "best.json", "report.html"
    }  # fmt: skip


@pytest.mark.parametrize("moment", [r"training is exact", r"trial +3 "])
def test_a_killed_search_continues_as_if_nothing_had_been(
    small_csv: Path, undisturbed: Path, tmp_path: Path, moment: str
) -> None:
    folder = tmp_path / "search"
    with start(small_csv, folder) as process:
        wait_for(process, moment)
        eventually(lambda: (folder / "study.sqlite3").exists())
        process.kill()
    killed = table(folder) if (folder / "trials.csv").exists() else table(undisturbed)[:0]
    assert len(killed) < TRIALS
    assert killed.equals(table(undisturbed)[: len(killed)])
    with start(small_csv, folder) as process:
        said, progress = process.communicate(timeout=120)
    assert process.returncode == 0, progress
    assert (f"continuing after {len(killed)} trials" in progress) == (len(killed) > 0)
    assert table(folder).equals(table(undisturbed))
    assert re.search(r"^trial \d+ is the best: HR=0\.\d+; NDCG=0\.\d+; learning_rate ", said)
    assert f"ncf train --data {small_csv} --output runs/best --preset {folder}/best.json" in said


def test_ctrl_c_keeps_the_trials_that_have_ended(small_csv: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    with start(small_csv, folder) as process:
        wait_for(process, r"trial +2 ")
        process.send_signal(signal.SIGINT)
        said, progress = process.communicate(timeout=60)
    assert process.returncode == 0, progress
    assert "the search is cut short; the same command continues it" in progress
    assert "is the best" in said
    assert (folder / "report.html").exists()
    find(small_csv, folder)
    assert table(folder).equals(table(undisturbed))


def test_a_search_ends_in_time_and_says_if_that_was_too_little(small_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trial was trained to its end; give the search more time"):
        find(small_csv, tmp_path / "search", max_seconds=1e-9)


def test_held_out_items_are_in_no_trial(small_csv: Path, undisturbed: Path, tmp_path: Path) -> None:
    split = load_split(small_csv)
    none = np.zeros(0, split.held_out.user_index.dtype)
    folder = tmp_path / "a?b #{c} é%20"
    find(replace(split, held_out=HeldOut(none, none)), folder, trials=2)
    assert len(table(folder)) == 2


def test_a_trial_that_fails_is_noted_and_the_search_goes_on(
    small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = [
        Range("learning_rate", 0.03, 1e38) if each.setting == "learning_rate" else each
        for each in ranges.RANGES["exact"]
    ]
    monkeypatch.setitem(ranges.RANGES, "exact", tuple(wild))
    find(small_csv, tmp_path / "search", trials=5)
    trials = table(tmp_path / "search")
    assert len(trials) == 5
    failed = trials.filter(state="failed")
    assert len(failed) >= 1
    assert all("in the first epoch" in reason for reason in failed["reason"])
    assert failed["ndcg_at_10"].null_count() == len(failed)
    assert "failed: the loss became" in (tmp_path / "search" / "report.html").read_text()


def test_a_search_whose_trials_all_fail_says_why(small_csv: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, learning_rate=1e38)
    with pytest.raises(InputError, match="no trial was trained to its end; the first failed: the loss became nan"):
        search([small_csv], tmp_path / "search", config, (*FIXED, "learning_rate"), CPU, Limits(2))


def test_a_file_that_the_search_did_not_write_is_kept(small_csv: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = copy(undisturbed, tmp_path / "search")
    (folder / "best.json").write_text("mine")
    find(small_csv, folder)
    assert json.loads((folder / "best.json").read_text())["model"] == "gmf"
    (kept,) = folder.glob("best.json.*.kept")
    assert kept.read_text() == "mine"
    assert len(list(folder.glob("*.kept"))) == 1


@pytest.mark.parametrize(("model", "negatives"), [("mlp", "2"), ("neumf", "2"), ("gmf", "2"), ("neumf", "exact")])
def test_every_model_and_way_is_searched(small_csv: Path, tmp_path: Path, model: str, negatives: str) -> None:
    config = TrainConfig(model=model, negatives=negatives, epochs=1)
    fixed = {"model", "epochs"} | ({"negatives"} if negatives == "exact" else set())
    search([small_csv], tmp_path / "search", config, fixed, CPU, Limits(2))
    trials = table(tmp_path / "search")
    assert ("num_layers" in trials.columns) == (model != "gmf")
    assert ("negatives" in trials.columns) == (negatives != "exact")
    assert ("negative_weight" in trials.columns) == (negatives == "exact")
    assert trials["state"].to_list() == ["done", "done"]


def test_softmax_has_its_own_range_of_l2(small_csv: Path, tmp_path: Path) -> None:
    config = TrainConfig(model="gmf", loss="softmax", epochs=1)
    search([small_csv], tmp_path / "search", config, {"model", "loss", "epochs"}, CPU, Limits(1))
    assert table(tmp_path / "search").row(0, named=True)["l2"] == 0.04
