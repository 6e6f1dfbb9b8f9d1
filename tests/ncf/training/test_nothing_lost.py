"""A process removes or replaces only files that it wrote itself, however a training ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ncf.data.load import load_split
from ncf.errors import InputError
from ncf.training import recipe
from ncf.training.checkpoints import Checkpoints, identity_of, write_checkpoint
from ncf.training.nothing_lost import OwnFiles
from ncf.training.run import Life, train_run
from ncf.training.run_directory import load_run
from tests.conftest import QUICK, run_ncf
from tests.support.training import CPU, content, unfinished

DIVERGES = replace(QUICK, negatives="4", learning_rate=1e38)  # the loss is not a number in the first epoch


def test_a_folder_with_any_config_json_is_no_run_to_resume(food_csv: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.json").write_text("{}")
    (mine / "model.safetensors").write_text("precious")
    before = content(mine)
    options = ("--negatives", 4, "--epochs", 1, "--learning-rate", "1e38", "--resume")
    ended = run_ncf("train", "--data", food_csv, "--output", mine, *options)
    assert ended.returncode == 2
    assert "exists already; choose another --output" in ended.stderr
    assert content(mine) == before


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"model": "gmf"}', '{"model_type": "bert", "data": "x"}', '{"model": 3, "data": [], "num_factors": 0}'],
)
def test_a_config_json_of_another_program_is_never_resumed(food_csv: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="exists already"):
        train_run(food_csv, tmp_path, QUICK, CPU, Life(resume=True))
    assert content(tmp_path) == {tmp_path / "config.json": text.encode()}


@pytest.mark.parametrize("checkpoints", [True, False], ids=["with checkpoints", "before the first checkpoint"])
def test_resuming_with_a_wrong_option_changes_nothing(food_csv: Path, tmp_path: Path, checkpoints: bool) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    unfinished(run, food_csv, QUICK)
    elsewhere.mkdir()
    if checkpoints:
        plan = recipe.plan(load_split(food_csv), QUICK, CPU)
        state = {"identity": identity_of(plan.config, plan.fit)}
        write_checkpoint(elsewhere / "epoch-000001.ckpt", state)
    before = content(run, elsewhere)
    with pytest.raises(InputError, match=r"num_factors .*8.* 4"):
        train_run(food_csv, run, replace(QUICK, num_factors=4), CPU, Life(True, elsewhere))
    assert content(run, elsewhere) == before


def test_a_resumed_run_that_fails_before_a_checkpoint_keeps_what_was_there(food_csv: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    unfinished(run, food_csv, DIVERGES)
    (run / "README.md").write_text("my own")
    names = {path.name for path in run.iterdir()}
    with pytest.raises(InputError, match="lower --learning-rate"):
        train_run(food_csv, run, DIVERGES, CPU, Life(True, tmp_path / "elsewhere"))
    assert {path.name for path in run.iterdir()} == names
    assert (run / "notes.txt").read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_a_resumed_run_keeps_the_users_files_to_its_end(food_csv: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    unfinished(run, food_csv, QUICK)
    (run / "README.md").write_text("my own")
    assert train_run(food_csv, run, QUICK, CPU, Life(resume=True)) is not None
    assert (run / "result.json").exists()
    assert (run / "notes.txt").read_text() == "precious"
    assert (run / "README.md").read_text() == "my own"


def test_a_run_that_fails_removes_its_own_files_only(
    food_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes into the run directory while it trains."""
    run = tmp_path / "runs" / "first"

    def fail(*_: object) -> None:
        assert {path.name for path in run.iterdir()} >= {"config.json", "versions.json"}
        (run / "checkpoints" / "notes.txt").write_text("precious")
        raise InputError("no")

    monkeypatch.setattr(recipe, "train", fail)
    with pytest.raises(InputError, match="no"):
        train_run(food_csv, run, QUICK, CPU)
    assert content(tmp_path) == {run / "checkpoints" / "notes.txt": b"precious"}


def test_checkpoints_of_an_earlier_process_are_neither_removed_nor_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identity = {"model": "gmf"}
    for epoch in range(1, 6):
        write_checkpoint(tmp_path / f"epoch-00000{epoch}.ckpt", {"identity": identity, "epoch": epoch})
    (tmp_path / "epoch-000006.ckpt").write_text("damaged, or a file of the user's")
    (tmp_path / "epoch-000007.ckpt.part").write_text("a file of the user's")
    before = content(tmp_path)
    checkpoints = Checkpoints(tmp_path, identity, resume=True)
    for epoch in range(6, 13):
        checkpoints.written = -float("inf")
        checkpoints.save("", epoch, {"epoch": epoch}, best=7, stopped="")
    assert {path: value for path, value in content(tmp_path).items() if path in before} == before
    assert "epoch-000006.ckpt is there already" in caplog.text
    written = {path.name for path in content(tmp_path).keys() - before.keys()}
    assert written == {f"epoch-0000{epoch:02}.ckpt" for epoch in (7, 10, 11, 12)}


def test_a_finished_run_removes_the_checkpoints_that_it_wrote_only(
    food_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    unfinished(run, food_csv, QUICK)
    (run / "checkpoints").mkdir()
    plan = recipe.plan(load_split(food_csv), QUICK, CPU)
    identity = identity_of(plan.config, plan.fit)
    write_checkpoint(run / "checkpoints" / "other-000001.ckpt", {"identity": identity})  # of an earlier process
    (run / "checkpoints" / "notes.txt").write_text("precious")
    before = content(run / "checkpoints")
    train_run(food_csv, run, QUICK, CPU, Life(resume=True))
    assert content(run / "checkpoints") == before
    assert f"{run / 'checkpoints'} holds files of an earlier process; they may be deleted" in capfd.readouterr().err


def test_only_files_that_were_not_there_are_own(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    own = OwnFiles()
    assert [own.claim(tmp_path / name) for name in ("theirs", "link", "mine", "mine")] == [False, False, True, True]
    (tmp_path / "mine").write_text("")
    own.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "theirs"]


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet", "interactions.npz", "weights.pt", "result.json"])
def test_a_file_with_the_name_of_a_result_is_set_aside(food_csv: Path, tmp_path: Path, name: str) -> None:
    """It came while this process trained: from the user, or from another process that resumed the same run."""
    run = tmp_path / "run"
    unfinished(run, food_csv, QUICK)
    if name == "result.json":

        def finished_by_another(*_: object) -> None:
            (run / name).write_text("precious")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ncf.training.run.begin_run", finished_by_another)
            train_run(food_csv, run, QUICK, CPU, Life(resume=True))
    else:
        (run / name).write_text("precious")
        train_run(food_csv, run, QUICK, CPU, Life(resume=True))
    assert load_run(run).config.num_factors == QUICK.num_factors
    kept = [path for path in run.glob(f"{name}.*.kept") if path.read_text() == "precious"]
    assert len(kept) == 1
