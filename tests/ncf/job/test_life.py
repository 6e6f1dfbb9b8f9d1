"""How a training job lives and ends (CONTRACT C101-C103): stopped, continued elsewhere, and with a full disk."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ncf.commands.main import train_verb
from ncf.export import export
from ncf.job.job import STOPPED_EARLY, TrainingJob
from ncf.training.checkpoints import read_checkpoint
from ncf.training.nothing_lost import undisturbed
from tests.support.jobs import Job, read_until, small_job

FOREVER = {"epochs": "100000", "patience": "100000"}


@pytest.fixture(autouse=True)
def sigterm_as_the_verb_sets_it() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


def model_of(job: Job) -> Path:
    return job.base / "model" / "ncf_model" / "1" / "model.pt"


def test_c103_sigterm_leaves_the_best_epoch(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml", **FOREVER)
    process = job.start()
    read_until(process, r"epoch +2\b")
    began = time.monotonic()
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert time.monotonic() - began < 30  # of 120
    assert "the job was stopped: the held-out items are not evaluated" in said
    assert model_of(job).exists()
    assert not (job.base / "output" / "failure").exists()


def terminated(what: Callable[..., object]) -> Callable[..., object]:
    """The same, and meanwhile the job is told to stop."""

    def run(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return what(*arguments)

    return run


def test_c103_sigterm_does_not_interrupt_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("ncf.export.export.export", terminated(export.export))
    job = small_job(tmp_path / "ml")
    assert TrainingJob(job.base).run() == 0
    assert model_of(job).exists()
    assert "SIGTERM came while the export of the model was finished" in caplog.text
    assert not (job.base / "output" / "data" / "evaluation.json").exists()


def test_c103_sigterm_during_the_evaluation_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ncf.training.run.compare", terminated(time.sleep))
    job = small_job(tmp_path / "ml")
    assert TrainingJob(job.base).run() == 0
    assert model_of(job).exists()
    assert "stopped before the held-out items were evaluated" in caplog.text


def test_c103_sigterm_before_there_is_a_model_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncf.training.run.load_split", terminated(time.sleep))
    job = small_job(tmp_path / "ml")
    assert TrainingJob(job.base).run() == 1
    assert job.failure == STOPPED_EARLY


def weights(job: Job) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(job.run_directory / "weights.pt", weights_only=True)
    return found


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each epoch, however short they are."""
    monkeypatch.setattr("ncf.training.checkpoints.SHARE", 1e9)


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("refit", ["true", "false"])
def test_c102_a_job_goes_on_from_its_checkpoints_elsewhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], refit: str
) -> None:
    """On a spot instance: what is in /opt/ml/checkpoints is there again, and nothing else."""
    values = {"epochs": "6", "patience": "6", "refit": refit}
    whole = small_job(tmp_path / "whole", **values)
    (whole.base / "checkpoints").mkdir()
    assert TrainingJob(whole.base).run() == 0
    assert not (whole.run_directory / "checkpoints").exists()

    again = small_job(tmp_path / "again", **values)
    shutil.copytree(whole.base / "checkpoints", again.base / "checkpoints")
    sorted((again.base / "checkpoints").iterdir())[-1].unlink()  # it was killed in the last epoch
    again.run_directory.mkdir(parents=True)
    assert TrainingJob(again.base).run() == 0
    best = json.loads((whole.run_directory / "result.json").read_text())["best_epoch"]
    cut = f"refit, continuing after epoch {best - 1}" if refit == "true" else "\ncontinuing after epoch 5"
    assert cut in capfd.readouterr().err
    if refit == "true":
        weights_of = [torch.load(job.run_directory / "refit" / "weights.pt") for job in (whole, again)]
        assert all(torch.equal(weights_of[0][name], value) for name, value in weights_of[1].items())
    assert all(torch.equal(weights(whole)[name], value) for name, value in weights(again).items())
    assert model_of(again).exists()


def test_c102_another_jobs_checkpoints_are_refused(tmp_path: Path) -> None:
    first = small_job(tmp_path / "first")
    (first.base / "checkpoints").mkdir()
    assert TrainingJob(first.base).run() == 0
    other = small_job(tmp_path / "other", num_factors="8")
    shutil.copytree(first.base / "checkpoints", other.base / "checkpoints")
    assert TrainingJob(other.base).run() == 2
    assert "belongs to a run with num_factors 4, this run has 8" in other.failure
    assert list((other.base / "checkpoints").iterdir())


def test_c102_checkpoints_that_nobody_asked_for_are_not_in_the_output(tmp_path: Path) -> None:
    job = small_job(tmp_path / "ml")
    assert TrainingJob(job.base).run() == 0
    assert not (job.base / "checkpoints").exists()
    assert not (job.run_directory / "checkpoints").exists()


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, int], None]]:
    """A file system of so many KB, mounted on a folder."""
    mounted: list[Path] = []

    def mount(folder: Path, size: int) -> None:
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("mount") else None
        if ended is None or ended.returncode:
            pytest.skip(f"no file system can be mounted here: {ended.stderr.strip() if ended else 'mount is missing'}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", [20, 100])
def test_c101_a_full_disk_under_the_model_is_said(
    tmp_path: Path, small_disk: Callable[[Path, int], None], size: int
) -> None:
    job = small_job(tmp_path / "ml")
    small_disk(job.base / "model", size)
    assert TrainingJob(job.base).run() == 1
    assert job.failure.startswith(f"cannot write the model into {job.base / 'model'}: {os.strerror(errno.ENOSPC)}")
    assert "give the job a larger volume; the run is in" in job.failure
    assert list((job.base / "model").iterdir()) == []


@pytest.mark.usefixtures("every_epoch")
def test_c102_a_full_disk_under_the_checkpoints_costs_no_run(
    tmp_path: Path, small_disk: Callable[[Path, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    job = small_job(tmp_path / "ml", epochs="4", num_factors="16", patience="9")
    small_disk(job.base / "checkpoints", 60)
    assert TrainingJob(job.base).run() == 0
    assert "the checkpoint before it stays" in caplog.text
    assert model_of(job).exists()
    left = sorted((job.base / "checkpoints").iterdir())
    assert left
    assert all(read_checkpoint(path)["epochs"] for path in left)  # whole


def test_work_that_is_undisturbed_is_so_in_the_main_thread_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with undisturbed("this") as heard:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert sorted(heard) == [signal.SIGINT, signal.SIGTERM]
    assert "SIGINT came while this was finished" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    found: list[list[int]] = []

    def work() -> None:
        with undisturbed("that") as heard:
            found.append(heard)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [[]]


def test_the_verb_explains_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["train", "--help"])
    with pytest.raises(SystemExit) as ended:
        train_verb()
    assert ended.value.code == 0
    assert "Usage: train [--NAME VALUE ...]" in capsys.readouterr().out
