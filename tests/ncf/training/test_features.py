"""Trainings with features: by the command, resumed, refused; and without any, as before."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch

from ncf.data.load import load_split
from ncf.errors import InputError
from ncf.export.new import with_new
from ncf.features.encoding import FindFeatures, find_features
from ncf.training import recipe
from ncf.training.checkpoints import Checkpoints
from ncf.training.config import TrainConfig
from ncf.training.cost import require_one_model
from ncf.training.loop import Watch, train_stage
from ncf.training.run import Life, train_run
from ncf.training.run_directory import load_features, load_run
from tests.conftest import run_ncf
from tests.support.training import CPU

QUICK = TrainConfig(model="gmf", num_factors=4, epochs=2)
WAYS = [
    QUICK,
    replace(QUICK, loss="softmax"),
    replace(QUICK, negatives="4"),
    replace(QUICK, model="neumf"),
    replace(QUICK, model="mlp", negatives="4", negatives_among="popular"),
]


@pytest.fixture(scope="module")
def tables(food_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Features of items (the word before the hyphen) and of users."""
    folder, data = tmp_path_factory.mktemp("features"), pl.read_csv(food_csv)
    items = data.select("item_id").unique(maintain_order=True)
    items.with_columns(kind=pl.col("item_id").str.split("-").list.first()).write_csv(folder / "items.csv")
    users = data.select("user_id").unique(maintain_order=True).with_row_index("number")
    users.select("user_id", region=pl.col("number") % 3).write_csv(folder / "users.csv")
    return folder / "items.csv", folder / "users.csv"


def features_of(tables: tuple[Path, Path]) -> FindFeatures:
    return partial(find_features, tables[1], tables[0], QUICK.split.columns)


@pytest.mark.parametrize("config", WAYS, ids=lambda each: f"{each.model}-{each.loss}-{each.negatives}")
def test_every_way_of_training_learns_what_values_say(
    config: TrainConfig, food_csv: Path, tables: tuple[Path, Path]
) -> None:
    plan = recipe.plan(load_split(food_csv), config, CPU, find=features_of(tables))
    result = recipe.train(plan, CPU)
    assert result.features is not None
    for side in (result.features.users, result.features.items):
        assert side is not None
        assert all(rows.abs().sum() > 0 and rows.isfinite().all() for rows in side.rows)
    assert result.model.branches[0].item_embedding.weight.shape[0] == plan.fit.num_items  # type: ignore[union-attr]


def test_a_resumed_training_is_the_same(food_csv: Path, tables: tuple[Path, Path], tmp_path: Path) -> None:
    find = features_of(tables)
    plan = recipe.plan(load_split(food_csv), replace(QUICK, epochs=3), CPU, find=find)
    whole = recipe.train(plan, CPU).model.state_dict()
    stopped = Checkpoints(tmp_path, {"run": "a"}, False)

    def stop(epoch: object) -> None:
        raise KeyboardInterrupt

    recipe.train(plan, CPU, Watch(on_epoch=stop, checkpoints=stopped))
    resumed = recipe.train(plan, CPU, Watch(checkpoints=Checkpoints(tmp_path, {"run": "a"}, True)))
    assert len(resumed.epochs) == 3
    for name, weight in resumed.model.state_dict().items():
        torch.testing.assert_close(weight, whole[name], rtol=0, atol=0)


def test_without_features_a_training_is_what_it_was(food_csv: Path) -> None:
    plan = recipe.plan(load_split(food_csv), QUICK, CPU)
    mine, stage = recipe.train(plan, CPU), train_stage(plan.fit, plan.candidates, plan.config, CPU, Watch())
    assert mine.features is None
    for name, weight in mine.model.state_dict().items():
        assert torch.equal(weight, stage.model.state_dict()[name])


def test_the_command_says_what_it_did_and_keeps_it(food_csv: Path, tables: tuple[Path, Path], tmp_path: Path) -> None:
    options = ["--output", tmp_path / "run", "--epochs", 2, "--num-factors", 4]
    sources = ["--item-features", tables[0], "--user-features", tables[1]]
    done = run_ncf("train", "--data", food_csv, *options, *sources)
    assert done.returncode == 0, done.stderr
    assert f"features of items from {tables[0]}: kind: 12 values\n" in done.stderr
    assert f"features of users from {tables[1]}: region: 3 values\n" in done.stderr
    assert "`features.pt`: how features are encoded" in (tmp_path / "run" / "README.md").read_text()
    run = load_run(tmp_path / "run")
    learned = load_features(run)
    assert learned is not None
    assert learned.items is not None
    assert [column.name for column in learned.items.encoding.columns] == ["kind"]
    assert run_ncf("evaluate", "--run", tmp_path / "run", "--data", food_csv).returncode == 0
    (tmp_path / "run" / "features.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"features.pt cannot be loaded, for it is damaged; train again"):
        load_features(run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "ml-1m-best"], "it folds several models into one; leave out pretrain, members, closed_form and"),
        (["--model", "neumf", "--pretrain"], "features need a training of one model, and pretrain starts from two"),
        (["--item-features", "nowhere.csv"], "nowhere.csv does not exist; --item-features takes files"),
    ],
)
def test_what_cannot_be_trained_is_said(
    options: list[str], message: str, food_csv: Path, tables: tuple[Path, Path], tmp_path: Path
) -> None:
    given = [] if "--item-features" in options else ["--item-features", tables[0]]
    done = run_ncf("train", "--data", food_csv, "--output", tmp_path / "run", *given, *options)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_several_processes_are_refused() -> None:
    with pytest.raises(InputError, match="features are trained by one process, and there are 2; start one"):
        require_one_model(QUICK, 2)


def test_checkpoints_of_other_features_are_refused(food_csv: Path, tables: tuple[Path, Path], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    train_run(food_csv, tmp_path / "one", QUICK, CPU, Life(checkpoints=kept, quiet=True), tables[0])
    with pytest.raises(InputError, match=r"belongs to a run with data .* with features .*, this run has"):
        train_run(food_csv, tmp_path / "two", QUICK, CPU, Life(resume=True, checkpoints=kept, quiet=True), *tables)


def test_a_refit_has_features_of_its_own_and_new_items_get_their_rows_from_it(
    food_csv: Path, tables: tuple[Path, Path], tmp_path: Path
) -> None:
    config, run = replace(QUICK, refit=True), tmp_path / "run"
    train_run(food_csv, run, config, CPU, Life(quiet=True), *tables)
    rows = []
    for refitted in (False, True):
        learned = load_features(load_run(run, refitted=refitted))
        assert learned is not None
        assert learned.items is not None
        rows.append(learned.items.rows[0])
    assert rows[0].shape == rows[1].shape
    assert not torch.equal(*rows)
    pl.DataFrame({"item_id": ["new-1"], "kind": ["soup"]}).write_csv(tmp_path / "new.csv")
    known = load_run(run, refitted=True)
    found, _ = with_new(known, tmp_path / "new.csv")
    assert len(found.items) == len(known.items) + 1


def test_a_warm_start_with_features_is_refused(food_csv: Path, tables: tuple[Path, Path], tmp_path: Path) -> None:
    train_run(food_csv, tmp_path / "first", QUICK, CPU, Life(quiet=True))
    with pytest.raises(InputError, match="features are learned beside them from the start; give one of both"):
        train_run(food_csv, tmp_path / "run", QUICK, CPU, Life(quiet=True, init=tmp_path / "first"), *tables)
    assert not (tmp_path / "run").exists()
