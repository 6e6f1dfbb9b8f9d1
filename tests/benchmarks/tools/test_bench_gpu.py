"""The errors that `benchmarks/tools/bench_gpu.sh` reports before it changes anything, and their remedies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ROOT

SCRIPT = ROOT / "benchmarks/tools/bench_gpu.sh"


def script(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_script_explains_itself(tmp_path: Path) -> None:
    ended = script("--help", folder=tmp_path)
    assert ended.returncode == 0
    assert "benchmarks/tools/bench_gpu.sh pack" in ended.stdout
    assert "benchmarks/tools/bench_gpu.sh run" in ended.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["measure"], "the first argument is 'measure'; it must be pack or run, see --help"),
        ([], "the first argument is ''; it must be pack or run, see --help"),
        (["run", "--device", "tpu"], "--device is 'tpu'; it must be gpu or cpu"),
        (["run", "--fast"], "there is no option --fast; see --help"),
        (["run", "--pack"], "--pack takes a value; see --help"),
        (["run", "a"], "unexpected argument 'a'; see --help"),
        (["pack", "--only", "sweep"], "--only is for run only; see --help"),
        (["pack", "--python", "3.8"], "--python is '3.8'; the project runs on 3.10, 3.11 and 3.12"),
    ],
)
def test_a_mistake_in_the_call_is_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    ended = script(*words, folder=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"bench_gpu.sh: {said}\n")


def checkout(folder: Path, *words: object, torch: str | None = None) -> subprocess.CompletedProcess[str]:
    """`run` in a folder with the script alone, and with a module `torch` of this text."""
    (folder / "benchmarks/tools").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "benchmarks/tools")
    environment = dict(os.environ)
    if torch is not None:
        (folder / "site").mkdir()
        (folder / "site" / "torch.py").write_text(torch)
        environment["PYTHONPATH"] = str(folder / "site")
    command = ["benchmarks/tools/bench_gpu.sh", "run", "--python", sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def pack(folder: Path, version: str) -> Path:
    (folder / "wheels").mkdir(parents=True)
    (folder / "python").write_text(f"{version}\n")
    return folder


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ("None", "is not built for CUDA; name another Python by --python, or try the script with --device cpu"),
        ("'12.6'", "sees no GPU; check that nvidia-smi works and that its driver is new enough for CUDA 12.6"),
    ],
)
def test_a_run_without_a_gpu_says_what_to_do(build: str, said: str, tmp_path: Path) -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    module = (
        "from types import SimpleNamespace as Space\n__version__ = '2.9'\n"
        f"version, cuda = Space(cuda={build}), Space(is_available=lambda: False)\n"
    )
    ended = checkout(tmp_path, "--pack", pack(tmp_path / "pack", here), torch=module)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert said in ended.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_run_without_a_pack_says_how_to_make_one(tmp_path: Path) -> None:
    ended = checkout(tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "is not a pack" in ended.stderr
    assert "run benchmarks/tools/bench_gpu.sh pack on a machine with an index" in ended.stderr


def test_a_pack_for_another_python_is_refused(tmp_path: Path) -> None:
    ended = checkout(tmp_path, "--pack", pack(tmp_path / "pack", "3.9"))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "is for Python 3.9" in ended.stderr
    assert "pack again with --python 3." in ended.stderr


def test_an_environment_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    ended = checkout(tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ".venv was not made by this script" in ended.stderr
    assert (tmp_path / ".venv").exists()


def test_a_folder_with_other_files_is_not_packed_into(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "wheels").mkdir(parents=True)
    (mine / "wheels" / "a.whl").write_text("precious")
    ended = script("pack", mine, folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (
        1, f"bench_gpu.sh: {mine} has files that this script did not write; name a new folder\n"
    )  # fmt: skip
    assert (mine / "wheels" / "a.whl").read_text() == "precious"
