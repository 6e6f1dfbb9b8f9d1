"""What the documents copy from the code is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.reporting.report import readme_block
from ncf.commands.main import cli
from ncf.training.presets import PRESETS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_settings_and_tree_in_the_readme_are_the_codes() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("the tree is read from git, and this is no git checkout")
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from update_readme import updated
    finally:
        sys.path.pop(0)
    assert updated(README) == README, "run: python scripts/update_readme.py"


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)\b", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_ncf_command_in_the_readme_is_understood() -> None:
    """Each line's options exist: the command fails, if at all, only because the files of the example are not there."""
    commands = re.findall(r"^    ncf (\w+) +(.+)$", README, re.MULTILINE)
    assert len(commands) >= 3
    for command, arguments in commands:
        result = CliRunner().invoke(cli, [command, *arguments.split()])
        assert "No such option" not in result.output
        assert "Missing option" not in result.output


def test_defaults_in_the_help_are_the_configs() -> None:
    shown = CliRunner().invoke(cli, ["train", "--help"], terminal_width=200).output
    sampled, exact = (PRESETS["default"].resolved(negatives) for negatives in ("4", "exact"))
    for name in (
        "epochs",
        "patience",
        "batch_size",
        "learning_rate",
        "num_factors",
        "num_layers",
        "dropout",
        "l2",
        "seed",
    ):
        option = f"--{name.replace('_', '-')}"
        (line,) = [line for line in shown.splitlines() if line.strip().startswith(option + " ")]
        default = re.search(r"\[default: ([0-9.]+)(?:; exact: ([0-9.]+))?\]", line)
        assert default is not None, line
        assert float(default[1]) == float(getattr(sampled, name)), line
        assert float(default[2] or default[1]) == float(getattr(exact, name)), line


def test_files_are_of_a_size_that_fits_in_a_head() -> None:
    for path in [*ROOT.glob("ncf/**/*.py"), *ROOT.glob("serve/**/*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path


def test_nothing_of_movielens_is_in_the_repository() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = re.sub(r"^benchmarks/report/data/.*$", "", listed, flags=re.MULTILINE)  # what was measured
    assert not re.search(r"\.(rating|negative|dat|csv|parquet|pt)$", listed, re.MULTILINE)


def test_what_the_readme_says_of_speed_is_what_was_measured() -> None:
    """Its figures are made from the points beside the report, and the report is made of all of them."""
    data = ROOT / "benchmarks" / "report" / "data"
    made = "python -m benchmarks.reporting.report benchmarks/report/data --output benchmarks/report --readme README.md"
    assert f"<!-- bench -->\n{readme_block(data)}\n<!-- /bench -->" in README, f"run: {made}"
