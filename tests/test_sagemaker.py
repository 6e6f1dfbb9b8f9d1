"""The `train` verb under SageMaker's training contract (CONTRACT C97-C101, C104)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

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
