"""The `train` verb under SageMaker's training contract (CONTRACT C97-C101, C104)."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO

import pytest

from ncf.sagemaker import TrainingJob
from tests.conftest import BIN


def job(base: Path, data: Path | None, hyperparameters: dict[str, str], channel: str = "train") -> Path:
    (base / "input" / "config").mkdir(parents=True)
    (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    if data is not None:
        (base / "input" / "data" / channel).mkdir(parents=True)
        shutil.copy(data, base / "input" / "data" / channel)
    return base


def run_train(base: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SAGEMAKER_BASE_DIR": str(base)}
    return subprocess.run([BIN / "train"], env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_c097_to_c104_a_job_trains_and_leaves_a_repository(food_csv: Path, tmp_path: Path) -> None:
    values = {"epochs": "2", "model": '"gmf"', "model_name": "ncf_food_model", "sagemaker_program": "x", "k": "20"}
    base = job(tmp_path, food_csv, values)
    ended = run_train(base)
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in (base / "model").iterdir()) == [
        "ncf_food_model",
        "ncf_food_model_query",
        "ncf_food_model_topk",
    ]
    assert (base / "output" / "data" / "run" / "metrics.jsonl").exists()
    assert re.search(r"HR=(.*?);", ended.stderr)
    assert re.search(r"NDCG=(.*?);", ended.stderr)
    assert not (base / "output" / "failure").exists()


@pytest.mark.parametrize(
    ("values", "channel", "message"),
    [
        ({"epoch": "2"}, "train", "hyperparameter 'epoch' is unknown; did you mean 'epochs'?"),
        ({"epochs": "two"}, "train", "hyperparameter 'epochs' is 'two'; it must be a whole number"),
        ({"device": "tpu"}, "train", "hyperparameter 'device' is 'tpu'"),
        ({"k": "0"}, "train", "k is 0"),
        ({"model_name": "a b"}, "train", "'a b' is no model name"),
        ({}, "other", "no channel named train or training"),
    ],
)
def test_c101_a_failure_says_why(
    food_csv: Path, tmp_path: Path, values: dict[str, str], channel: str, message: str
) -> None:
    base = job(tmp_path, food_csv, values, channel)
    assert TrainingJob(base).run() == 2
    assert message in (base / "output" / "failure").read_text()
    assert not (base / "model").exists()


def test_c101_bad_data_says_why(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("user_id,item_id\n")
    base = job(tmp_path / "ml", empty, {})
    assert TrainingJob(base).run() == 2
    assert "no rows" in (base / "output" / "failure").read_text()


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A folder on a file system mounted read-only, which stops root, too."""
    real = tempfile.TemporaryFile

    def refuse(dir: Path) -> IO[bytes]:
        if dir == folder:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


@pytest.mark.parametrize("name", ["model", "output/data"])
def test_c101_where_results_cannot_be_written_nothing_is_trained(
    food_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    base = job(tmp_path, food_csv, {"epochs": "1000000"})
    forbid(monkeypatch, base / name)
    assert TrainingJob(base).run() == 1
    reason = (
        f"cannot write into {base / name}: Read-only file system; mount {base} so that user {os.getuid()} may write"
    )
    assert (base / "output" / "failure").read_text().startswith(reason)
    assert reason in caplog.text


def test_c101_a_failure_that_cannot_be_written_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert TrainingJob(tmp_path / "none").run() == 2
    assert f"SAGEMAKER_BASE_DIR {tmp_path / 'none'} is no folder; mount one with the data in input/data" in caplog.text
    caplog.clear()
    (tmp_path / "output").touch()  # where a folder should be: an error for root, too
    assert TrainingJob(tmp_path).run() == 2
    first, second = caplog.messages
    assert "no channel named train" in first
    assert second == f"cannot write {tmp_path / 'output' / 'failure'}: File exists"


def test_c101_what_may_not_be_read_is_one_line(food_csv: Path, tmp_path: Path) -> None:
    base = job(tmp_path, food_csv, {})
    (base / "input" / "config" / "hyperparameters.json").unlink()
    (base / "input" / "config" / "hyperparameters.json").mkdir()
    assert TrainingJob(base).run() == 1
    assert "Is a directory" in (base / "output" / "failure").read_text()
