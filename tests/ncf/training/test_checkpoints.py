from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ncf.data.load import load_split
from ncf.data.splits import Split
from ncf.errors import InputError
from ncf.training import recipe
from ncf.training.checkpoints import KEPT, Checkpoints, identity_of, read_checkpoint, write_checkpoint
from ncf.training.config import TrainConfig
from ncf.training.loop import Epoch, TrainResult, Watch
from ncf.training.presets import configure
from ncf.training.run import Life, train_run
from tests.conftest import BIN, QUICK
from tests.support.training import CPU, content, unfinished

KINDS = {
    "sampled": TrainConfig(num_factors=8, epochs=5, dropout=0.2),
    "exact": TrainConfig(model="gmf", num_factors=8, negatives="exact", epochs=5),
    "exact neumf": TrainConfig(num_factors=4, negatives="exact", epochs=3),
    "folded": TrainConfig(model="gmf", num_factors=8, epochs=3, members=2, fold_factors=12),
    "pretrained": TrainConfig(num_factors=4, epochs=2, pretrain=True),
}


class KilledError(Exception):
    """Stands for a SIGKILL: nothing is tidied up after it."""


@pytest.fixture(scope="module")
def split(food_csv: Path) -> Split:
    return load_split(food_csv)


def run(split: Split, config: TrainConfig, folder: Path, resume: bool = False, kill_after: int = 10**6) -> TrainResult:
    plan = recipe.plan(split, config, CPU)
    checkpoints = Checkpoints(folder, identity_of(plan.config, plan.fit), resume)
    heard = []

    def on_epoch(epoch: Epoch) -> None:
        heard.append(epoch)
        if len(heard) == kill_after:
            raise KilledError

    return recipe.train(plan, CPU, Watch(on_epoch=on_epoch, checkpoints=checkpoints))


def told(result: TrainResult) -> list[tuple[object, ...]]:
    """What epochs report, but for the time they took."""
    return [(e.stage, e.epoch, e.loss, e.hit_rate_at_10, e.ndcg_at_10) for e in result.epochs]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(split: Split, tmp_path: Path, kind: str) -> None:
    config = KINDS[kind]
    undisturbed = run(split, config, tmp_path / "whole")
    for kill_after in (1, 2, len(undisturbed.epochs) - 1):
        folder = tmp_path / str(kill_after)
        with pytest.raises(KilledError):
            run(split, config, folder, kill_after=kill_after)
        resumed = run(split, config, folder, resume=True)
        assert told(resumed) == told(undisturbed)
        assert resumed.origin == undisturbed.origin
        for name, weight in undisturbed.model.state_dict().items():
            assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_a_finished_stage_is_not_trained_again(split: Split, tmp_path: Path) -> None:
    first = run(split, KINDS["exact"], tmp_path)
    again = run(split, KINDS["exact"], tmp_path, resume=True)
    assert [epoch.seconds for epoch in again.epochs] == [epoch.seconds for epoch in first.epochs]
    assert again.stopped == "all epochs done"


def test_the_newest_and_the_best_are_kept(split: Split, tmp_path: Path) -> None:
    plan = recipe.plan(split, replace(QUICK, epochs=1), CPU)
    checkpoints = Checkpoints(tmp_path, identity_of(plan.config, plan.fit), resume=True)
    for epoch in range(1, 9):
        checkpoints.written = -float("inf")
        checkpoints.save("", epoch, {"epoch": epoch}, best=2, stopped="")
    kept = [read_checkpoint(path)["epoch"] for path in checkpoints.files("")]
    assert kept == [2, *range(9 - KEPT, 9)]
    newest = checkpoints.latest("")
    assert newest is not None
    assert newest["epoch"] == 8


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(
    split: Split, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, {"model": "gmf"}, resume=True)
    for epoch in (1, 2):
        write_checkpoint(tmp_path / f"epoch-00000{epoch}.ckpt", {"identity": {"model": "gmf"}, "epoch": epoch})
    path = tmp_path / "epoch-000002.ckpt"
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "foreign": b"PK something else",
        }[damage]
    )
    with caplog.at_level(logging.WARNING):
        state = checkpoints.latest("")
    assert state is not None
    assert state["epoch"] == 1
    assert "epoch-000002.ckpt is damaged" in caplog.text


def test_a_checkpoint_of_another_model_or_other_data_is_refused(split: Split, food_csv: Path, tmp_path: Path) -> None:
    run(split, QUICK, tmp_path)
    with pytest.raises(InputError, match="belongs to a run with num_factors 8, this run has 4"):
        run(split, replace(QUICK, num_factors=4), tmp_path, resume=True)
    other = tmp_path / "other.csv"
    lines = food_csv.read_text().splitlines(keepends=True)
    other.write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match="belongs to a run with data "):
        run(load_split(other), QUICK, tmp_path, resume=True)


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file system of 1 MB; the run's checkpoints of 200 kB soon fill it."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        checkpoints = Checkpoints(folder, {}, resume=True)
        checkpoints.save("", 1, {"epoch": 1}, 1, "")
        with caplog.at_level(logging.WARNING):
            checkpoints.save("", 2, {"epoch": 2, "large": torch.zeros(10**6)}, 1, "all epochs done")
        assert "the checkpoint before it stays" in caplog.text
        assert [path.name for path in folder.iterdir()] == ["epoch-000001.ckpt"]
        state = checkpoints.latest("")
        assert state is not None
        assert state["epoch"] == 1
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_killed_command_goes_on_and_ends_the_same(food_csv: Path, tmp_path: Path) -> None:
    config = configure(None, {"num_factors": 8, "epochs": 12, "patience": 99})
    command = [BIN / "ncf", "train", "--data", food_csv, "--num-factors", "8", "--epochs", "12", "--patience", "99"]
    train_run(food_csv, tmp_path / "whole", config, CPU)
    killed = subprocess.Popen([*command, "--output", tmp_path / "run"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("run/checkpoints/*.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    with pytest.raises(InputError, match="--resume goes on with its unfinished run"):
        train_run(food_csv, tmp_path / "run", config, CPU)
    train_run(food_csv, tmp_path / "run", config, CPU, Life(resume=True))
    weights = [torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("whole", "run")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 12


def test_a_branch_that_was_cut_short_is_not_built_upon_by_a_later_run(split: Split, tmp_path: Path) -> None:
    config = KINDS["pretrained"]
    undisturbed = run(split, config, tmp_path / "whole")
    plan = recipe.plan(split, config, CPU)
    checkpoints = Checkpoints(tmp_path / "cut", identity_of(plan.config, plan.fit), resume=False)
    recipe.train(plan, CPU, Watch(checkpoints=checkpoints, deadline=0.0))
    resumed = run(split, config, tmp_path / "cut", resume=True)
    assert told(resumed) == told(undisturbed)


@pytest.mark.parametrize("stage", ["gmf", "mlp", "neumf"])
def test_an_interrupt_ends_the_whole_of_a_training_in_stages(split: Split, stage: str) -> None:
    def interrupt(epoch: Epoch) -> None:
        if epoch.stage == stage:
            raise KeyboardInterrupt

    plan = recipe.plan(split, KINDS["pretrained"], CPU)
    if stage == "gmf":  # there is no NeuMF yet
        with pytest.raises(KeyboardInterrupt):
            recipe.train(plan, CPU, Watch(on_epoch=interrupt))
        return
    result = recipe.train(plan, CPU, Watch(on_epoch=interrupt))
    assert result.stopped == "interrupted"
    assert result.epochs[-1].stage == stage
    assert len(result.model.branches) == 2


@pytest.mark.parametrize("how", ["interrupted", "out of time"])
def test_a_member_that_was_cut_short_is_left_out(split: Split, how: str) -> None:
    deadline = float("inf") if how == "interrupted" else 0.0

    def stop(epoch: Epoch) -> None:
        if how == "interrupted" and epoch.stage == "member 2":
            raise KeyboardInterrupt

    plan = recipe.plan(split, replace(KINDS["folded"], epochs=1), CPU)
    result = recipe.train(plan, CPU, Watch(on_epoch=stop, deadline=deadline))
    assert result.stopped == how
    assert {epoch.stage for epoch in result.epochs} == {"member 1"}


def test_checkpoints_of_another_run_are_not_touched(food_csv: Path, tmp_path: Path) -> None:
    """Neither without --resume, nor with it under other settings; nor is the run directory beside them."""
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    elsewhere.mkdir()
    write_checkpoint(elsewhere / "epoch-000004.ckpt", {"identity": {"model": "svd"}})
    unfinished(run, food_csv, QUICK)
    before = content(elsewhere, run)
    with pytest.raises(InputError, match="holds checkpoints already"):
        train_run(food_csv, tmp_path / "new", QUICK, CPU, Life(False, elsewhere))
    for output in (run, tmp_path / "new"):
        with pytest.raises(InputError, match="belongs to a run with model svd"):
            train_run(food_csv, output, QUICK, CPU, Life(True, elsewhere))
    assert content(elsewhere, run) == before
    assert not (tmp_path / "new").exists()


def test_a_run_with_its_checkpoints_elsewhere_goes_on(food_csv: Path, tmp_path: Path) -> None:
    unfinished(tmp_path / "run", food_csv, QUICK)
    life = Life(resume=True, checkpoints=tmp_path / "elsewhere")
    assert train_run(food_csv, tmp_path / "run", QUICK, CPU, life) is not None
    assert (tmp_path / "run" / "result.json").exists()


def test_a_finished_run_keeps_no_checkpoints_of_its_own(food_csv: Path, tmp_path: Path) -> None:
    train_run(food_csv, tmp_path / "run", QUICK, CPU)
    assert not (tmp_path / "run" / "checkpoints").exists()
