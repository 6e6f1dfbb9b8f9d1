"""`ncf evaluate` and the evaluation of a job: baselines that had the same data as the model."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from ncf.commands.main import cli
from ncf.data.load import load_split
from ncf.data.prepare import prepare
from ncf.evaluation.comparison import compare
from ncf.job.result import evaluation
from ncf.training import recipe
from ncf.training.config import TrainConfig
from ncf.training.run import train_run
from ncf.training.run_directory import load_run
from tests.support.training import CPU


def table(times: bool) -> pl.DataFrame:
    """Forty users with 9 of 30 items each."""
    random = np.random.default_rng(0)
    items = np.concatenate([random.choice(30, 9, replace=False) for _ in range(40)])
    frame = pl.DataFrame({"user_id": np.repeat(np.arange(40), 9), "item_id": items})
    return frame.with_columns(timestamp=random.permutation(360)) if times else frame


@pytest.mark.parametrize("validation", [0, 1, 2])
@pytest.mark.parametrize("kind", ["times", "no times", "prepared", "a user more"])
def test_baselines_are_fitted_on_what_the_model_was_trained_on(tmp_path: Path, kind: str, validation: int) -> None:
    data = tmp_path / "data.csv"
    frame = table(times=kind != "no times")
    frame.write_csv(data)
    if kind == "prepared":
        validation = min(validation, 1)
        prepare([data], tmp_path / "prepared")
        data = tmp_path / "prepared"
    config = TrainConfig(model="gmf", num_factors=4, epochs=1, validation=validation)
    split = load_split(data)
    fit = recipe.plan(split, config, CPU).fit
    assert len(fit) == 40 * (8 - validation)
    train_run(data, tmp_path / "run", config, CPU)
    run = load_run(tmp_path / "run")
    expected = compare(run.model, split, fit, config.seed)
    assert expected.settings["ease"]["l2"] == 8.0 * (8 - validation)
    own = json.loads(CliRunner().invoke(cli, ["evaluate", "--run", str(run.path), "--json"]).stdout)
    assert {**own, "model_kind": ""} == json.loads(json.dumps(expected.document("")))
    if kind == "a user more":  # whose rows the run does not know
        more = pl.DataFrame({"user_id": [99] * 3, "item_id": [0, 1, 2], "timestamp": [7, 8, 9]})
        pl.concat([frame, more]).write_csv(data)
    arguments = ["evaluate", "--run", str(run.path), "--data", str(data), "--json", "--device", "cpu"]
    printed = json.loads(CliRunner().invoke(cli, arguments).stdout)
    for document in (printed, evaluation(run.path, "cpu", data)):
        assert document["settings"] == expected.settings
        assert document["popularity"] == expected.report()["popularity"]
        assert document["ease"] == expected.report()["ease"]
        assert document["by_user_activity"] == json.loads(json.dumps(expected.details()["by_user_activity"]))


@pytest.mark.parametrize("validation", [0, 1])
@pytest.mark.parametrize("how", ["time", "ratio", "test"])
def test_every_protocol_goes_through_training_and_evaluation(tmp_path: Path, how: str, validation: int) -> None:
    """The run knows how its data were split; nothing that is held out, or that chooses the epoch, is fitted."""
    data, options = tmp_path / "data.csv", {"time": ["--test-share=.3"], "ratio": ["--test-share=.3"], "test": []}[how]
    frame = table(times=True)
    frame.write_csv(data)
    if how == "test":
        frame[::5].write_csv(tmp_path / "test.csv")
    options += ["--test", str(tmp_path / "test.csv")] if how == "test" else ["--split", how]
    arguments = ["--data", str(data), "--output", str(tmp_path / "run"), "--epochs=1", "--num-factors=4",
                 f"--validation={validation}", "--split-seed=5", "--device=cpu", *options]  # fmt: skip
    result = CliRunner().invoke(cli, ["train", *arguments])
    assert result.exit_code == 0, result.output
    run = load_run(tmp_path / "run")
    split = load_split(data, run.config.split)
    assert (run.config.split.seed, run.config.seed) == (5, 0)
    fit, chosen_by = recipe.cut(split, run.config)
    assert (chosen_by is not None) == bool(validation)
    held = [each for each in (split.held_out, chosen_by) if each is not None]
    pairs = [set(zip(each.user_index, each.item_index, strict=True)) for each in (fit, *held)]
    assert len(set.union(*pairs)) == sum(map(len, pairs))
    if how == "time":
        assert fit.timestamp is not None
        for before, after in pairwise([fit, *reversed(held)]):
            assert before.timestamp.max() < after.timestamp.min()
    expected = compare(run.model, split, fit, 5)
    own = json.loads(CliRunner().invoke(cli, ["evaluate", "--run", str(run.path), "--json"]).stdout)
    assert {**own, "model_kind": ""} == json.loads(json.dumps(expected.document("")))
    again = CliRunner().invoke(cli, ["evaluate", "--run", str(run.path), "--data", str(data), "--json"])
    assert again.stderr.count("WARNING") == 0
    assert json.loads(again.stdout)["held_out"] == own["held_out"]
    assert json.loads(again.stdout)["popularity"] == own["popularity"]


def test_popular_negatives_are_harder_and_said(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    random = np.random.default_rng(0)
    weight = 1 / np.arange(1, 301)
    items = [random.choice(300, 12, replace=False, p=weight / weight.sum()) for _ in range(200)]
    pl.DataFrame({"user_id": np.repeat(np.arange(200), 12), "item_id": np.concatenate(items)}).write_csv(data)
    train_run(data, tmp_path / "run", TrainConfig(model="gmf", num_factors=4, epochs=1), CPU)
    command = ["evaluate", "--run", str(tmp_path / "run")]
    alike = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    popular = json.loads(CliRunner().invoke(cli, [*command, "--json", "--negatives-among", "popular"]).stdout)
    assert popular["negatives_among"] == "popular"
    assert popular["popularity"]["full"] == alike["popularity"]["full"]
    assert popular["popularity"]["sampled"]["HR@10"] < 0.85 * alike["popularity"]["sampled"]["HR@10"]
    shown = CliRunner().invoke(cli, [*command, "--negatives-among", "popular", "--report", str(tmp_path / "page.html")])
    assert "The negatives are drawn in proportion to their popularity." in shown.stdout
    assert "drawn in proportion to their popularity" in (tmp_path / "page.html").read_text()
