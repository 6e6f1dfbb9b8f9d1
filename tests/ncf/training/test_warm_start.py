"""Warm start: a training that begins with the parameters of an earlier run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from click.testing import CliRunner

from ncf import Recommender
from ncf.commands.main import cli, main
from ncf.data.load import load_split
from ncf.errors import InputError
from ncf.training import recipe
from ncf.training.config import TrainConfig
from ncf.training.loop import start_model
from ncf.training.presets import configure
from ncf.training.run import Life, train_run
from ncf.training.run_directory import Run, load_run, warm
from tests.support.training import CPU

CONFIG = configure(None, {"num_factors": 8, "epochs": 6})


@pytest.fixture(scope="module")
def frame(food_csv: Path) -> pl.DataFrame:
    return pl.read_csv(food_csv)


def earlier_run(frame: pl.DataFrame, folder: Path, config: TrainConfig = CONFIG) -> Run:
    """A run without the users whose ids end in 7 and the items of soup, and with a user who is gone later."""
    old = frame.filter(~pl.col("user_id").str.ends_with("7"), ~pl.col("item_id").str.starts_with("soup"))
    gone = old.filter(pl.col("user_id") == "u10").with_columns(user_id=pl.lit("gone"))
    path = folder / "old.csv"
    pl.concat([old, gone]).write_csv(path)
    train_run(path, folder / "old", config, CPU)
    return load_run(folder / "old")


@pytest.fixture(scope="module")
def earlier(frame: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return earlier_run(frame, tmp_path_factory.mktemp("warm"))


@pytest.mark.parametrize("model", ["gmf", "mlp", "neumf"])
def test_known_ids_keep_their_rows_and_new_ones_get_sensible_ones(
    model: str, frame: pl.DataFrame, food_csv: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, model=model, negatives="2", num_factors=4, epochs=1)
    run = earlier_run(frame, tmp_path, config)
    fit = load_split(food_csv).train
    found = warm(start_model(fit, config.resolved("2"), CPU), fit, config, run).eval()
    users, items = run.users.encode(fit.users.ids), run.items.encode(fit.items.ids)
    old_user, old_item = (torch.from_numpy((index >= 0).nonzero()[0]) for index in (users, items))
    expected = run.model(
        torch.from_numpy(users)[old_user[:50]].unsqueeze(1), torch.from_numpy(items)[old_item].unsqueeze(0)
    )
    assert torch.allclose(found(old_user[:50].unsqueeze(1), old_item.unsqueeze(0)), expected)
    for branch, theirs in zip(found.branches, run.model.branches, strict=True):
        new_item = branch.item_embedding.weight[items < 0]  # type: ignore[union-attr,index]
        assert torch.allclose(new_item, theirs.item_embedding.weight.mean(0).expand_as(new_item))  # type: ignore[union-attr,operator]
        new_user = branch.user_embedding.weight[users < 0]  # type: ignore[union-attr,index]
        assert len(new_user.unique(dim=0)) == len(new_user)  # each from its own history


def test_a_few_epochs_reach_what_many_reach(earlier: Run, food_csv: Path, tmp_path: Path) -> None:
    """With the default of epochs; a user who is new is among those who are measured."""
    config = replace(CONFIG, epochs=None)
    result = train_run(food_csv, tmp_path / "warm", config, CPU, Life(init=earlier.path))
    cold = train_run(food_csv, tmp_path / "cold", replace(CONFIG, epochs=6), CPU)
    assert result is not None
    assert cold is not None
    assert len(result.epochs) == 6  # of 40
    assert result.ndcg_at_10 is not None
    assert cold.ndcg_at_10 is not None
    assert result.ndcg_at_10 > cold.ndcg_at_10
    run = load_run(tmp_path / "warm")
    assert "u17" in run.users.ids
    assert "gone" not in run.users.ids
    assert json.loads((run.path / "config.json").read_text())["init"] == str(earlier.path)


def test_the_branches_of_a_run_are_not_trained_alone_again(frame: pl.DataFrame, food_csv: Path, tmp_path: Path) -> None:
    config = TrainConfig(model="neumf", num_factors=4, negatives="2", epochs=1, pretrain=True)
    run = earlier_run(frame, tmp_path, config)
    result = train_run(food_csv, tmp_path / "new", replace(config, refit=True), CPU, Life(init=run.path))
    assert result is not None
    assert [epoch.stage for epoch in result.epochs] == [""]
    assert result.refit is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-factors", "4"], "ncf: --init is {run}, a run with num_factors 8, and here num_factors is 4; give"),
        (["--model", "neumf", "--num-factors", "8"], "a run with model gmf, and here model is neumf"),
        (["--num-factors", "8", "--loss", "spectral"], "ncf: --init has no effect on loss spectral, which starts from"),
        (["--num-factors", "8", "--members", "2"], "ncf: --init goes on with one model; members, closed_form and fold"),
        (["--num-factors", "8", "--user-column", "number"], "whose user ids are text, and those of the data are whole"),
        (["--num-factors", "8", "--item-column", "other"], "and none of its items is in the data; give data with the"),
        (["--num-factors", "8", "--init", "data"], "is no run directory"),
        (["--num-factors", "8", "--init", "nowhere"], "is no run directory"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_the_start_is_refused(
    options: list[str], message: str, earlier: Run, frame: pl.DataFrame, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    number = pl.col("user_id").str.slice(1).cast(pl.Int64)
    frame.with_columns(number=number, other="x" + pl.col("item_id")).write_csv("new.csv")
    (tmp_path / "data").mkdir()
    words = ["ncf", "train", "--data", "new.csv", "--output", "run", "--init", str(earlier.path), *options]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message.format(run=earlier.path) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_figures_that_the_start_makes_too_high_are_warned_of(
    earlier: Run, food_csv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe.plan(load_split(food_csv, CONFIG.split), CONFIG, CPU, earlier=earlier)
    assert "held out now" not in caplog.text
    ratio = configure(None, {"num_factors": 8, "split": "ratio", "test_share": 0.5})
    recipe.plan(load_split(food_csv, ratio.split), ratio, CPU, earlier=earlier)
    assert "interactions that are held out now: the figures will be too high" in caplog.text


def test_checkpoints_of_another_start_are_refused(earlier: Run, food_csv: Path, tmp_path: Path) -> None:
    life = Life(checkpoints=tmp_path / "checkpoints", init=earlier.path)
    train_run(food_csv, tmp_path / "first", replace(CONFIG, epochs=1), CPU, life)
    again = replace(life, resume=True)
    train_run(food_csv, tmp_path / "second", replace(CONFIG, epochs=1), CPU, again)
    with pytest.raises(InputError, match=r"belongs to a run with init .*, this run has none"):
        train_run(food_csv, tmp_path / "third", replace(CONFIG, epochs=1), CPU, replace(again, init=None))


def test_in_python_a_recommender_is_the_start(earlier: Run, frame: pl.DataFrame, food_csv: Path) -> None:
    model = Recommender(num_factors=8, refit=True).fit(frame, init=earlier.path)
    assert len(model.history) == 6
    other = Recommender(num_factors=8).fit(frame, init=Recommender.load(earlier.path))
    assert other.history["loss"].equals(model.history["loss"])
    with pytest.raises(InputError, match="a run with num_factors 8, and here num_factors is 4"):
        Recommender(num_factors=4).fit(frame, init=model)


def test_no_search_has_it(tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli, ["tune", "--help"]).output
    assert "--refit" not in printed
    assert "--init" not in printed
