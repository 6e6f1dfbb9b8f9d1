from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ncf.commands.main import cli
from ncf.errors import InputError
from ncf.training.config import TrainConfig
from ncf.training.run import train_run
from tests.conftest import BIN
from tests.support.serving import free_port
from tests.support.training import CPU

EPOCHS = 12


def torchrun(*arguments: object, processes: int = 2) -> list[object]:
    return [BIN / "torchrun", "--standalone", "--nproc-per-node", processes, "-m", "ncf", "train", *arguments]


def options(data: Path, output: Path, epochs: int = EPOCHS) -> list[object]:
    settings = {"model": "gmf", "num-factors": 16, "negatives": 4, "batch-size": 2000, "learning-rate": 0.01}
    pairs = {"data": data, "output": output, "epochs": epochs, "patience": 99, **settings}
    return [text for name, value in pairs.items() for text in (f"--{name}", value)]


def start(command: list[object]) -> subprocess.Popen[str]:
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_reach_what_one_does_and_only_the_first_writes(food_csv: Path, tmp_path: Path) -> None:
    alone = [str(word) for word in options(food_csv, tmp_path / "one")]
    assert CliRunner().invoke(cli, ["train", *alone]).exit_code == 0
    process = start(torchrun(*options(food_csv, tmp_path / "two")))
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output.count("wrote ") == 1
    quality = []
    for name in ("one", "two"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == EPOCHS
        quality.append(json.loads(lines[-1]))
    one, two = quality
    assert two["hit_rate_at_10"] == pytest.approx(one["hit_rate_at_10"], abs=0.05)  # ± 3 standard errors
    assert two["loss"] == pytest.approx(one["loss"], rel=0.1)
    assert two["hit_rate_at_10"] > 0.5


@pytest.mark.parametrize("config", [{"negatives": "exact"}, {"loss": "softmax"}, {"model": "gmf", "members": 2}])
def test_exact_training_in_two_processes_is_refused_before_they_meet(
    food_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    """As torchrun starts each of them, but for the address where they would meet."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"this training has 2; run `ncf train` in one process, or give --negatives N"):
        train_run(food_csv, tmp_path / "run", TrainConfig(**config), CPU)
    assert not (tmp_path / "run").exists()


def test_a_dead_process_ends_the_training_with_a_clear_message(food_csv: Path, tmp_path: Path) -> None:
    """Without torchrun around them, which would end the other one itself."""
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "LOCAL_RANK": "0"}
    command = [BIN / "ncf", "train", *options(food_csv, tmp_path / "run", epochs=10_000)]
    processes = [
        subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **environment, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGKILL)
    _, errors = processes[0].communicate(timeout=120)
    processes[1].communicate()
    assert processes[0].returncode == 1
    assert "process 0 of 2 lost another process and ends" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "run" / "checkpoints").glob("*.ckpt"))  # from which it can go on


def test_ctrl_c_in_two_processes_keeps_the_best_epoch_so_far(food_csv: Path, tmp_path: Path) -> None:
    process = start(torchrun(*options(food_csv, tmp_path / "run", epochs=10_000)))
    deadline = time.monotonic() + 120
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 2):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["stopped"] == "interrupted"
