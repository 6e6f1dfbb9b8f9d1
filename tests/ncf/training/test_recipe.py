"""Trainings of several stages: what they report of themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ncf.commands.main import cli
from ncf.data.load import load_split
from ncf.evaluation.ranking import evaluate_sampled
from ncf.training import recipe
from ncf.training.config import TrainConfig
from ncf.training.loop import Epoch, Watch
from ncf.training.presets import configure
from ncf.training.progress import TrainingProgress
from tests.support.training import CPU, train

FOLDED = TrainConfig(model="gmf", num_factors=4, negatives="exact", softmax_members=1, closed_form=0.3)


def test_a_folded_model_has_no_epoch_and_no_loss_of_a_member(food_csv: Path, tmp_path: Path) -> None:
    options = ["--num-factors", 4, "--negatives", "exact", "--members", 2, "--closed-form", 0.3, "--epochs", 2]
    command = ["train", "--data", food_csv, "--output", tmp_path / "run", *options]
    printed = CliRunner().invoke(cli, [str(word) for word in command])
    assert printed.exit_code == 0, printed.output
    last = printed.stdout.splitlines()[-1]
    assert "folded from 2 GMFs and EDLAE (all epochs done), HR=" in last
    assert "Loss" not in last
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best_epoch"] is None
    assert result["loss"] is None
    assert result["hold_out"]["HR@10"] > 0
    assert result["epochs"] == 4
    assert "folded from 2 GMFs and EDLAE, HR@10" in (tmp_path / "run" / "README.md").read_text()


def test_members_among_other_items_are_folded(food_csv: Path) -> None:
    """A softmax member draws none, whichever items the others draw from."""
    for among in ("all", "popular"):
        config = replace(FOLDED, negatives_among=among, epochs=1)
        plan = recipe.plan(load_split(food_csv), config, CPU)
        assert [each.negatives_among for each in recipe.member_configs(plan)] == [among, "unseen"]


def test_a_split_by_time_chooses_the_epoch_by_time(food_csv: Path) -> None:
    """Nothing trains that is as late as what chooses the epoch, and only what was trained on is asked for."""
    config = configure(None, {"split": "time", "test_share": 0.3, "num_factors": 4})
    split = load_split(food_csv, config.split)
    plan = recipe.plan(split, config, CPU)
    again = recipe.cut(split, config)[1]
    assert plan.candidates is not None
    assert plan.fit.timestamp is not None
    assert again is not None
    assert again.timestamp is not None
    assert plan.fit.timestamp.max() < again.timestamp.min()
    assert len(again) == pytest.approx(0.3 * len(split.train), rel=0.1)
    assert (plan.fit.popularity()[plan.candidates.item_index.numpy()] > 0).all()
    assert set(plan.candidates.user_index.tolist()) <= set(plan.fit.user_index.tolist())


def test_a_pretrained_model_reports_the_epochs_of_its_last_stage(food_csv: Path) -> None:
    config = TrainConfig(num_factors=4, pretrain=True, epochs=2)
    result = train(load_split(food_csv), config)
    assert result.best is not None
    assert result.best.stage == "neumf"
    assert result.origin == f"best epoch {result.best.epoch} of 2"


def test_an_interrupted_pretraining_reports_the_model_that_is_kept(food_csv: Path) -> None:
    """It is joined from both branches: neither its figures nor its kind are those of the MLP."""

    def interrupt(epoch: Epoch) -> None:
        if epoch.stage == "mlp":
            raise KeyboardInterrupt

    plan = recipe.plan(load_split(food_csv), TrainConfig(num_factors=4, pretrain=True, epochs=2), CPU)
    result = recipe.train(plan, CPU, Watch(on_epoch=interrupt))
    assert plan.candidates is not None
    quality = evaluate_sampled(result.model, plan.candidates)
    assert (result.hit_rate_at_10, result.ndcg_at_10) == (quality["HR@10"], quality["NDCG@10"])
    assert result.config.model == "neumf"
    assert result.best is None
    assert result.origin == "joined from its two branches"


@pytest.mark.parametrize("config", [FOLDED, TrainConfig(pretrain=True, num_factors=4, epochs=2)])
def test_the_bar_goes_from_nothing_to_all_without_going_back(config: TrainConfig, food_csv: Path) -> None:
    """Members by softmax have more epochs than others."""
    plan = recipe.plan(load_split(food_csv), config, CPU)
    with TrainingProgress(recipe.stage_epochs(plan)) as progress:
        done, stages = [], []

        def on_step(epoch: int, step: int, steps: int, loss: float, rate: float) -> None:
            progress.on_step(epoch, step, steps, loss, rate)
            done.append(progress.bar.tasks[0].completed)
            stages.append(progress.bar.tasks[0].fields["stage"])

        recipe.train(plan, CPU, Watch(progress.on_stage, on_step, progress.on_epoch))
        total = progress.bar.tasks[0].total
    assert done == sorted(done)
    assert done[-1] == total
    assert done[0] <= 1
    assert total == (40 + 70 if config is FOLDED else 3 * 2)
    assert list(dict.fromkeys(stages)) == (
        ["member 1, ", "member 2, "] if config is FOLDED else ["gmf, ", "mlp, ", "neumf, "]
    )


def test_a_stage_that_ends_early_counts_as_a_whole(food_csv: Path) -> None:
    progress = TrainingProgress([40, 70])
    progress.on_stage("member 1")
    progress.on_step(3, 1, 2, 0.1, 1.0)
    assert progress.bar.tasks[0].completed == 2.5
    progress.on_stage("member 2")
    progress.on_step(1, 1, 2, 0.1, 1.0)
    assert progress.bar.tasks[0].completed == 40.5
