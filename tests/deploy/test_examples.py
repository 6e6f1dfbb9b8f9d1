"""Every example is short, is taken by the rules, and gives a template without a fault."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "deploy").glob("*.yaml"))


@pytest.fixture(scope="module")
def linter() -> ModuleType:
    """.ci/lint_templates.py, which `make lint` runs."""
    spec = importlib.util.spec_from_file_location("lint_templates", ROOT / ".ci" / "lint_templates.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_commented_and_short(example: Path) -> None:
    lines = example.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert 10 <= len(lines) <= 30
    assert max(map(len, lines)) <= 125


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_gives_a_template_without_a_fault(example: Path, linter: ModuleType, tmp_path: Path) -> None:
    if example.name not in linter.JOBS:
        assert linter.problems(linter.render(example, tmp_path)) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_section_and_a_row_in_the_table_of_tools(example: Path) -> None:
    sections, table = (ROOT / "docs" / "deploy.md").read_text().split("## Beside other tools")
    assert f"](../examples/deploy/{example.name})" in sections
    (row, *_) = [line for line in table.splitlines() if f"](../examples/deploy/{example.name})" in line]
    assert len(row.split(" | ")) == 7
    assert all(cell.strip(" |").startswith(("yes", "partly", "no", "kept")) for cell in row.split(" | ")[1:])


def test_the_linter_finds_faults(linter: ModuleType, tmp_path: Path) -> None:
    template = linter.render(ROOT / "examples" / "deploy" / "single.yaml", tmp_path)
    assert any("E3030" in fault for fault in linter.problems(template.replace("ml.c6i.xlarge", "ml.c6i.huge")))
    assert any("InstanceTipe" in fault for fault in linter.problems(template.replace("InstanceType", "InstanceTipe")))
