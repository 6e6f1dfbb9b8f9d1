"""The `ncf` command as a user runs it: files, exit codes, messages.

Each command runs once in a process of its own, here or in tests/whole/test_demo.py; loading torch takes two seconds.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ncf.commands.main import cli, main
from ncf.errors import InputError
from ncf.training.run_directory import Run, load_run
from tests.conftest import BIN, run_ncf


def invoke(*arguments: object) -> str:
    """What a command that succeeds prints, without the cost of a process; raises what main() makes a line of."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli, [str(argument) for argument in arguments])
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.core
def test_train_evaluate_export(food_csv: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = run_ncf("train", "--data", food_csv, "--output", run, "--model", "gmf", "--epochs", 2, "--seed", 3)
    assert trained.returncode == 0, trained.stderr
    assert "epoch 2  Loss=0." in trained.stderr
    assert "samples/s" in trained.stderr
    assert re.search(r"HR=(.*?); NDCG=(.*?);", trained.stdout)
    assert "training is exact: all 360,000 cells" in trained.stderr

    table = invoke("evaluate", "--run", run, "--data", food_csv)
    assert all(word in table for word in ("gmf", "popularity", "HR@10", "NDCG@10", "MRR", "HR@20", "1,200"))
    report = json.loads(invoke("evaluate", "--run", run, "--data", food_csv, "--json"))
    assert report["users"] == 1200
    assert set(report["model"]) == set(report["popularity"]) == {"sampled", "full", "lists"}
    assert f"{report['model']['full']['HR@10']:.4f}" in table

    exported = invoke("export", "--run", run, "--repository", tmp_path / "repository", "--name", "m", "--k", 20)
    assert "version 1, K = 20" in exported


def test_ctrl_c_ends_training_and_keeps_the_best_epoch_so_far(food_csv: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--model", "gmf", "--epochs", "100000", "--patience", "100000"]
    command = [BIN / "ncf", "train", "--data", food_csv, "--output", run, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        for line in training.stderr:
            if "epoch      3  " in line:
                break
        training.send_signal(signal.SIGINT)
        stdout, _ = training.communicate(timeout=30)
    assert training.returncode == 0
    assert "(interrupted)" in stdout
    assert load_run(run).model is not None


@pytest.mark.parametrize("name", [None, *cli.commands])
def test_help_has_examples_that_the_commands_understand(name: str | None) -> None:
    """Each line `ncf COMMAND …` below `Examples:` is read as a shell and click read it, up to a redirection."""
    text = invoke(*([name] if name else []), "--help")
    lines = [line.split(" > ")[0] for line in re.split(r"Examples?:\n", text)[1].splitlines()]
    words = [shlex.split(line)[1:] for line in lines if line.split()[:1] == ["ncf"]]
    assert name is None or name in [command for command, *_ in words]
    for command, *options in words:
        with cli.commands[command].make_context(command, options) as context:  # an unknown option is an error
            assert context.params


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--data", "none.csv", "--output", "run"), "none.csv does not exist"),
        (("train", "--data", "{csv}", "--output", "{run}"), "exists already; choose another --output"),
        (("train", "--data", "{csv}", "--output", "run", "--epochs", "0"), "epochs is 0; it must be at least 1"),
        (("train", "--data", "{csv}", "--output", "run", "--user-column", "who"), "no column 'who'"),
        (("train", "--data", "{csv}", "--output", "run", "--model", "svd"), "'svd' is not one of"),
        (("train", "--data", "{csv}", "--output", "run", "--device", "gpu"), "finds no CUDA device"),
        (("train", "--data", ".", "--output", "run"), "holds no file that ends in"),
        (("train", "--data", "{csv}", "--output", "/proc/run"), "cannot make the run directory"),
        (("evaluate", "--run", "none", "--data", "{csv}"), "no run directory"),
        (("export", "--run", "none", "--repository", "r", "--name", "m"), "no run directory"),
        (
            ("export", "--run", "{run}", "--repository", "r", "--name", "m", "--item-column", "sku"),
            "--item-column is 'sku', a column of --items, which is not given",
        ),
        (("export", "--run", "{run}", "--repository", "/proc/r", "--name", "m"), "cannot write into /proc/r"),
        (("export", "--run", "{run}", "--repository", "r", "--name", "m", "--serving", "p.json"), "cannot read p.json"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    food_csv: Path, food_run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if "gpu" in arguments and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so --device gpu is no mistake here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ncf", *(word.format(csv=food_csv, run=food_run.path) for word in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    stderr = capfd.readouterr().err
    assert ended.value.code == 2
    assert message in stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_metadata_and_rollback(food_run: Run, tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("sku,title\nsushi-01,Salmon\nsushi-02,Tuna\n")
    arguments = ("--run", food_run.path, "--repository", tmp_path / "r", "--name", "m")
    ended = run_ncf("export", *arguments, "--items", items, "--item-column", "sku")
    assert ended.returncode == 0, ended.stderr
    assert f"wrote {tmp_path}/r/m and m_query, version 1, K = 100, items with title" in ended.stdout
    assert "has no row for 298 of 300 items" in ended.stderr
    with pytest.raises(InputError, match="m has version 1 only"):
        invoke("rollback", "--repository", tmp_path / "r", "--name", "m")
    assert f"wrote {tmp_path}/r/m, m_topk and m_query, version 2" in invoke("export", *arguments, "--with-topk")
    ended = run_ncf("rollback", "--repository", tmp_path / "r", "--name", "m")
    assert (ended.returncode, ended.stdout.strip()) == (
        0,
        "m is at version 1 again; withdrawn: 2 (kept as .withdrawn-<version>)",
    )
    ended = run_ncf("rollback", "--repository", tmp_path / "nowhere", "--name", "m")
    assert ended.returncode == 2
    assert "is no folder" in ended.stderr


def test_evaluating_on_other_held_out_items_is_warned_of(food_csv: Path, food_run: Run, tmp_path: Path) -> None:
    lines = food_csv.read_text().splitlines(keepends=True)
    (tmp_path / "less.csv").write_text("".join(lines[:-2000]))
    for data, warned in ((food_csv, False), (tmp_path / "less.csv", True)):
        ended = CliRunner().invoke(cli, ["evaluate", "--run", str(food_run.path), "--data", str(data), "--json"])
        assert ended.exit_code == 0, ended.output
        assert ("holds out other items than the data" in ended.stderr) == warned
