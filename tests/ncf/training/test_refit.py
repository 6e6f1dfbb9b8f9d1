"""The epoch is chosen on the hold-out, then everything is fitted: what is evaluated, and what is served."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner

from ncf.commands.main import cli
from ncf.data.interactions import Interactions
from ncf.data.load import load_split
from ncf.data.prepare import prepare
from ncf.data.splits import SplitOptions
from ncf.errors import InputError
from ncf.models.neural import NCF
from ncf.training import recipe
from ncf.training.config import TrainConfig
from ncf.training.loop import Epoch, Watch
from ncf.training.presets import configure
from ncf.training.run import Life, train_run
from ncf.training.run_directory import load_run, own_split
from tests.support.training import CPU

CONFIG = configure(None, {"num_factors": 4, "epochs": 4, "negatives": "2", "refit": True})
# Users 8 to 11 and items 15 to 19 come late; weights are not all equal.
ROWS = [
    (user, item, 1 + (user + item) % 3, 100 * (user // 8) + 10 * (item // 15) + 20 * ((user + item) % 4 == 0) + item)
    for user in range(12) for item in range(user % 3, 20, 2 + user % 2)
]  # fmt: skip
NAMES = ["user_id", "item_id", "weight", "timestamp"]


def rows_of(data: Interactions) -> set[tuple[object, ...]]:
    weight = np.ones(len(data)) if data.weight is None else data.weight
    users, items = data.users.decode(data.user_index), data.items.decode(data.item_index)
    return set(zip(users, items, weight.tolist(), strict=True))


def write(path: Path, rows: Sequence[tuple[int, ...]]) -> Path:
    pl.DataFrame(rows, NAMES, orient="row").write_csv(path)
    return path


def same(one: NCF, other: NCF) -> bool:
    weights = other.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(
    "options",
    [
        SplitOptions(), SplitOptions(held_out=3), SplitOptions(split="ratio", test_share=0.3),
        SplitOptions(split="time", test_share=0.4), SplitOptions(test="test.csv"),
    ],
)  # fmt: skip
def test_the_held_out_interactions_are_put_back_with_their_weights(options: SplitOptions, tmp_path: Path) -> None:
    """Also those of users and items that were held out with all that is known of them."""
    data, rest = write(tmp_path / "all.csv", ROWS), []
    if options.test is not None:
        options = replace(options, test=str(write(tmp_path / "test.csv", [*ROWS[::3], (99, 99, 2, 500)])))
        rest = [(99, 99, 2.0)]
    split = load_split(data, options)
    whole = split.whole(options)
    assert rows_of(whole) == {row[:3] for row in ROWS} | set(rest)
    assert len(whole) == len(ROWS) + len(rest)
    if options.split == "time":
        assert split.train.num_users < whole.num_users == 12


def test_a_repeat_after_the_cut_replaces_or_adds(tmp_path: Path) -> None:
    rows = [(1, 1, 1, 10), (1, 2, 1, 11), (2, 1, 1, 12), (2, 3, 1, 13), (1, 1, 5, 20), (2, 2, 1, 21)]
    data = write(tmp_path / "all.csv", rows)
    options = SplitOptions(split="time", test_share=0.3)
    whole = load_split(data, options).whole(options)
    assert rows_of(whole) == {(1, 1, 5.0), (1, 2, 1.0), (2, 1, 1.0), (2, 3, 1.0), (2, 2, 1.0)}
    adding = replace(options, reading=replace(options.reading, sum_repeats=True))
    assert (1, 1, 6.0) in rows_of(load_split(data, adding).whole(adding))


def test_least_numbers_count_what_is_put_back(tmp_path: Path) -> None:
    data = write(tmp_path / "all.csv", [*ROWS, (77, 1, 1, 1000)])
    options = SplitOptions(split="time", test_share=0.4, min_user_interactions=2)
    assert 77 not in load_split(data, options).whole(options).users.ids


def test_a_folder_with_its_own_split_is_whole_again(tmp_path: Path) -> None:
    """Weights of held-out items are not kept there: they have the mean."""
    data = write(tmp_path / "all.csv", ROWS)
    prepare([data], tmp_path / "prepared", SplitOptions())
    split = load_split(tmp_path / "prepared")
    whole = split.whole(SplitOptions())
    assert {row[:2] for row in rows_of(whole)} == {row[:2] for row in ROWS}
    assert whole.weight is not None
    assert split.train.weight is not None
    assert whole.weight[-1] == pytest.approx(split.train.weight.mean())


def test_a_folder_of_lightgcn_is_whole_again(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 0 1\n1 2 1\n")
    (tmp_path / "test.txt").write_text("0 3 2\n1 0\n")
    whole = load_split(tmp_path).whole(SplitOptions())
    assert {row[:2] for row in rows_of(whole)} == {(0, 0), (0, 1), (1, 2), (1, 1), (0, 3), (0, 2), (1, 0)}
    assert whole.weight is None


@pytest.mark.parametrize("negatives", ["2", "exact"])
def test_what_is_served_is_fitted_to_everything_for_as_long(tmp_path: Path, food_csv: Path, negatives: str) -> None:
    """And what is evaluated is the model without a refit."""
    config = replace(CONFIG, negatives=negatives)
    train_run(food_csv, tmp_path / "refit", config, CPU)
    train_run(food_csv, tmp_path / "plain", replace(config, refit=False), CPU)
    measured, served = load_run(tmp_path / "refit"), load_run(tmp_path / "refit", refitted=True)
    assert same(measured.model, load_run(tmp_path / "plain").model)
    assert not load_run(tmp_path / "plain", refitted=True).refitted
    assert served.refitted
    assert served.held_out == measured.held_out
    best = json.loads((tmp_path / "refit" / "result.json").read_text())["best_epoch"]
    split = load_split(food_csv)
    plan = recipe.plan(split, config, CPU)
    again = replace(plan, fit=split.whole(config.split), candidates=None, until={"": best})
    assert same(served.model, recipe.train(again, CPU).model)
    pairs = own_split(measured).held_out
    for user, item in list(zip(pairs.user_index, pairs.item_index, strict=True))[:20]:
        known = served.known
        assert item in known.items[known.indptr[user] : known.indptr[user + 1]]
    assert len((tmp_path / "refit" / "metrics.jsonl").read_text().splitlines()) == 4


def test_the_commands_take_the_one_or_the_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A user who comes after the cut is recommended to, and nothing of the refit looks like a metric."""
    data = write(tmp_path / "all.csv", ROWS)
    options = ["--num-factors", "4", "--epochs", "2", "--split", "time", "--test-share", "0.4"]

    def run(*words: object) -> str:
        found = CliRunner().invoke(cli, [str(word) for word in words])
        assert found.exit_code == 0, found.output
        return found.output

    said = run("train", "--data", data, "--output", tmp_path / "run", *options, "--refit")
    said += capfd.readouterr().err
    assert f"refitting to all {len(ROWS)} interactions" in said
    assert "refit, epoch 1  loss " in said
    assert said.count("NDCG=") == said.count("Loss=") == 3  # two epochs, and the result
    run("train", "--data", data, "--output", tmp_path / "plain", *options)
    figures = [json.loads(run("evaluate", "--run", tmp_path / name, "--json")) for name in ("run", "plain")]
    assert figures[0]["model"] == figures[1]["model"]
    run("recommend", "--run", tmp_path / "run", "--output", tmp_path / "r.parquet", "--k", "3")
    assert 11 in pl.read_parquet(tmp_path / "r.parquet")["user_id"]
    run("vectors", "--run", tmp_path / "run", "--output", tmp_path / "vectors")
    assert len(pl.read_parquet(tmp_path / "vectors" / "users.parquet")) == 12
    for name in ("run", "plain"):
        said = run("export", "--run", tmp_path / name, "--repository", tmp_path / "models", "--name", name, "--k", 3)
        assert ("with `ncf train --refit` it has" in said) == (name == "plain")


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(model="gmf", num_factors=4, negatives="exact", epochs=3, members=2, closed_form=0.3),
        TrainConfig(model="neumf", num_factors=4, negatives="2", epochs=3, pretrain=True),
        TrainConfig(model="gmf", num_factors=4, negatives="exact", epochs=3, validation=0),
    ],
)
def test_each_stage_is_trained_to_its_own_best_epoch(config: TrainConfig, food_csv: Path) -> None:
    split = load_split(food_csv)
    epochs: list[Epoch] = []
    plan = recipe.plan(split, config, CPU)
    result = recipe.train(plan, CPU)
    again = recipe.refit(plan, split, result, CPU, Watch(on_epoch=epochs.append))
    assert again.refit is not None
    longest: dict[str, int] = {epoch.stage: epoch.epoch for epoch in epochs}
    name = {"": "refit"}
    assert longest == {name.get(each.stage, f"refit, {each.stage}"): each.epoch for each in result.chosen}
    assert (again.best, again.epochs) == (result.best, result.epochs)
    if not config.validation:
        assert longest == {"refit": 3}


def test_only_members_that_are_in_the_model_are_refitted(food_csv: Path) -> None:
    split = load_split(food_csv)
    plan = recipe.plan(split, TrainConfig(model="gmf", num_factors=4, negatives="exact", epochs=1, members=3), CPU)
    result = recipe.train(plan, CPU, Watch(deadline=time.monotonic()))
    stages: list[Epoch] = []
    again = recipe.refit(plan, split, result, CPU, Watch(on_epoch=stages.append))
    assert [epoch.stage for epoch in stages] == ["refit, member 1"]
    assert again.refit is not None


def test_an_interrupt_leaves_the_model_of_the_hold_out(
    food_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    split = load_split(food_csv)
    plan = recipe.plan(split, CONFIG, CPU)
    result = recipe.train(plan, CPU)
    again = recipe.refit(plan, split, result, CPU, Watch(on_epoch=interrupt))
    assert (again.stopped, again.refit, again.model) == ("interrupted", None, result.model)
    early = recipe.train(plan, CPU, Watch(on_epoch=interrupt))
    assert recipe.refit(plan, split, early, CPU, Watch()) is early
    monkeypatch.setattr("ncf.training.progress.TrainingProgress.on_refit_epoch", interrupt)
    train_run(food_csv, tmp_path / "run", CONFIG, CPU)
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (written["stopped"], written["refit"]) == ("interrupted", None)
    assert not load_run(tmp_path / "run", refitted=True).refitted
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_an_error_in_the_refit_loses_nothing(food_csv: Path) -> None:
    """With the held-out interactions the catalogue may be too large for EDLAE."""

    def fail(epoch: Epoch) -> None:
        raise InputError("too many items")

    said: list[str] = []
    split = load_split(food_csv)
    plan = recipe.plan(split, CONFIG, CPU)
    result = recipe.train(plan, CPU)
    assert recipe.refit(plan, split, result, CPU, Watch(on_epoch=fail, say=said.append)) is result
    assert said[-1] == "the model is not refitted: too many items"


def test_a_time_limit_leaves_room_for_the_refit(food_csv: Path, tmp_path: Path) -> None:
    result = train_run(food_csv, tmp_path / "run", CONFIG, CPU, Life(max_seconds=1e-9))
    assert result is not None
    assert (result.stopped, len(result.epochs)) == ("out of time", 1)
    assert result.refit is not None


def test_a_run_that_was_killed_in_its_refit_goes_on_there(
    food_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ncf.training.checkpoints.SHARE", 1e9)  # a checkpoint after each epoch
    whole, run = tmp_path / "whole", tmp_path / "run"
    train_run(food_csv, whole, CONFIG, CPU)

    def fail(self: object, epoch: Epoch) -> None:
        raise RuntimeError(signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr("ncf.training.progress.TrainingProgress.on_refit_epoch", fail)
        with pytest.raises(RuntimeError):
            train_run(food_csv, run, CONFIG, CPU)
    assert not (run / "result.json").exists()
    train_run(food_csv, run, CONFIG, CPU, Life(resume=True))
    assert "refit, continuing after epoch 1" in capfd.readouterr().err
    for refitted in (False, True):
        assert same(load_run(whole, refitted=refitted).model, load_run(run, refitted=refitted).model)
