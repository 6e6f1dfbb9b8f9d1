from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ncf.data.load import load_split
from ncf.errors import InputError
from ncf.training.run import Life, train_run
from ncf.training.run_directory import FILES, Run, load_run
from tests.conftest import QUICK
from tests.support.training import CPU, figures


def test_quality_before_saving_is_quality_after_loading(food_csv: Path, tmp_path: Path) -> None:
    result = train_run(food_csv, tmp_path / "run", QUICK, CPU)
    run = load_run(tmp_path / "run")
    assert result is not None
    split = load_split(food_csv, run.config.split).reindex(run.users, run.items)
    assert figures(run.model, split) == figures(result.model, split)


def test_a_run_directory_explains_itself(food_run: Run) -> None:
    for name in FILES:
        assert (food_run.path / name).exists()
    readme = (food_run.path / "README.md").read_text()
    assert all(name in readme for name in FILES)
    lines = (food_run.path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == QUICK.epochs
    assert {"epoch", "loss", "samples_per_second", "hit_rate_at_10", "ndcg_at_10"} <= set(json.loads(lines[0]))
    assert json.loads((food_run.path / "versions.json").read_text())["torch"] == torch.__version__
    assert len(food_run.known.items) == json.loads((food_run.path / "result.json").read_text())["num_interactions"]


def test_an_existing_run_is_not_overwritten(food_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("x")
    with pytest.raises(InputError, match="exists already"):
        train_run(food_csv, tmp_path / "run", QUICK, CPU)
    assert (tmp_path / "run" / "precious").exists()


def test_a_failed_run_leaves_nothing_of_its_own(food_csv: Path, tmp_path: Path) -> None:
    """A loss that is not a number ends the training after the run directory was begun."""
    diverges = replace(QUICK, negatives="4", learning_rate=1e38)
    with pytest.raises(InputError, match="lower --learning-rate"):
        train_run(food_csv, tmp_path / "runs" / "first", diverges, CPU)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="lower --learning-rate"):
        train_run(food_csv, tmp_path / "mine", diverges, CPU)
    assert list((tmp_path / "mine").iterdir()) == []


def test_data_that_cannot_be_trained_on_make_no_run_directory(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("user_id,item_id\na,x\na,y\nb,x\n")  # no item is left to choose the best epoch by
    with pytest.raises(InputError, match="three interactions of one user"):
        train_run(path, tmp_path / "run", QUICK, CPU)
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfinished_or_broken_run_is_refused(food_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run directory"):
        load_run(tmp_path / "none")
    train_run(food_csv, tmp_path / "run", QUICK, CPU)
    for name in ("weights.pt", "interactions.npz", "config.json", "users.parquet"):
        whole = (tmp_path / "run" / name).read_bytes()
        for cut in (b"", b"[]", whole[: len(whole) // 2]):
            (tmp_path / "run" / name).write_bytes(cut)
            with pytest.raises(InputError, match="cannot be loaded"):
                load_run(tmp_path / "run")
        (tmp_path / "run" / name).write_bytes(whole)
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(InputError, match=r"result.json is missing"):
        load_run(tmp_path / "run")


def test_event_files_hold_the_epochs(food_csv: Path, tmp_path: Path) -> None:
    """Read back record by record: a length, its checksum, a protobuf message, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    train_run(food_csv, tmp_path / "run", QUICK, CPU, Life(tensorboard=tmp_path / "events"))
    lines = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    (path,) = (tmp_path / "events").iterdir()
    content, found = path.read_bytes(), {}
    while content:
        length = int.from_bytes(content[:8], "little")
        for value in Event.FromString(content[12 : 12 + length]).summary.value:
            found[value.tag] = value.simple_value
        content = content[16 + length :]
    assert found["loss"] == pytest.approx(lines["loss"])
    assert found["hold-out/hit_rate_at_10"] == pytest.approx(lines["hit_rate_at_10"])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --tensorboard"):
        train_run(food_csv, tmp_path / "other", QUICK, CPU, Life(tensorboard=tmp_path / "file" / "events"))
    assert not (tmp_path / "other").exists()
