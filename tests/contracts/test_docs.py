"""What the documents copy from the code is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.reporting.report import readme_block
from ncf.commands.main import cli
from ncf.training.presets import PRESETS
from serve.settings import SETTINGS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [
    page
    for pages in ("*.md", "docs/*.md", "model_repository/README.md", "examples/**/README.md")
    for page in sorted(ROOT.glob(pages))
]
ROOMS = ("ncf", "serve", "deploy", "benchmarks", "tests", "scripts", ".ci")
FOLDERS = (*map(re.escape, ROOMS), "docs", "examples")


def test_the_settings_page_is_made_from_the_settings() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "settings_page.py")]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert page == (ROOT / "docs" / "settings.md").read_text(), "run: python .ci/settings_page.py > docs/settings.md"
    named = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(named) == sorted(setting.name for setting in SETTINGS)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    """Relative links only: a link to another site can be right today and wrong tomorrow."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.relative_to(ROOT)} links to {target}, which does not exist"
        if heading:
            assert heading in anchors(file.read_text()), f"{page.relative_to(ROOT)} links to {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_of_ours_that_is_named_exists(page: Path) -> None:
    """Paths in code quotes, also as the first word of a command. docs/log.md is history and keeps old names."""
    if page.name == "log.md":
        pytest.skip("the log keeps the names of its time")
    for name in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)[` ]", page.read_text()):
        assert (ROOT / name).exists(), f"{page.relative_to(ROOT)} names {name}, which does not exist"


def test_decisions_are_numbered_and_those_that_are_cited_exist() -> None:
    decisions = (ROOT / "docs" / "decisions.md").read_text()
    numbers = [int(number) for number in re.findall(r"^- \*\*D(\d+)\. ", decisions, re.MULTILINE)]
    assert len(numbers) == len(re.findall(r"^- ", decisions, re.MULTILINE)), "a decision without a number"
    assert len(set(numbers)) == len(numbers), "a number given twice"
    code = [
        path
        for folder in ("ncf", "serve", "deploy", "benchmarks", "scripts", ".ci")
        for path in (ROOT / folder).rglob("*")
    ]
    for path in [*PAGES, ROOT / "Makefile", ROOT / "Dockerfile", *code]:
        if path.suffix in (".py", ".sh", ".md", "") and path.is_file():
            for cited in re.findall(r"\bD(\d+)\b", path.read_text()):
                assert int(cited) in numbers, f"{path.relative_to(ROOT)} cites D{cited}, which docs/decisions.md lacks"


def without_code(text: str) -> str:
    """Markdown without its code, in which brackets are no links."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """The names that a page's headings have in links."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


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
    files = [path for name in ROOMS for path in (ROOT / name).rglob("*") if path.suffix in (".py", ".cc", ".h", ".sh")]
    assert [path for path in files if len(path.read_text().splitlines()) > 300] == []


def test_folders_are_of_a_size_that_fits_in_a_head() -> None:
    files = [path for name in ROOMS for path in (ROOT / name).rglob("*") if path.is_file()]
    folders = Counter(path.parent for path in files if path.name != "__init__.py" and path.suffix != ".pyc")
    assert {folder: count for folder, count in folders.items() if count > 16} == {}


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
