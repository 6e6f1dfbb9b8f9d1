"""The command that `make bench` runs: which sections, how it ends, and what it leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from benchmarks.rig.points import read_points
from benchmarks.rig.run import BenchRun
from benchmarks.serving import __main__ as bench

Section = Callable[[BenchRun], None]


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts sections of the test's own in place of those that measure for minutes."""
    monkeypatch.setattr(bench, "require_wrk", lambda: None)

    def put(**runs: Section) -> None:
        for name, run in runs.items():
            module = ModuleType(f"{bench.__package__}.{name}")
            module.run = run  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(bench, "SECTIONS", dict.fromkeys(runs, ""))

    return put


def one_point(section: str, key: str) -> Section:
    def run(run: BenchRun) -> None:
        for missing in run.points.missing(section, [{"ask": key}]):
            run.points.add(section, missing, {"requests_per_s": 1.0})

    return run


def interrupted(run: BenchRun) -> None:
    raise KeyboardInterrupt


def impossible(run: BenchRun) -> None:
    raise click.ClickException("there is no perf_analyzer; fetch it")


def test_sections_run_in_their_own_order() -> None:
    assert bench.chosen("ladder, sweep", False, "cpu") == ["sweep", "ladder"]
    assert bench.chosen(None, False, "cpu") == list(bench.SECTIONS)
    assert bench.chosen(None, True, "cpu") == list(bench.QUICK)
    assert bench.chosen(None, False, "gpu") == list(bench.ON_GPU)


def test_a_section_that_is_none_is_named() -> None:
    result = CliRunner().invoke(bench.main, ["--only", "lader"])
    assert result.exit_code == 2
    assert "'lader' is no section; choose some of in_process, sweep, ladder" in result.output


def test_an_interrupted_run_keeps_its_points_and_goes_on(sections: Callable[..., None], tmp_path: Path) -> None:
    sections(first=one_point("first", "a"), second=interrupted)
    result = CliRunner().invoke(bench.main, ["--output", str(tmp_path)])
    assert result.exit_code == 130
    assert "the same command goes on from here" in result.output
    assert (tmp_path / "report" / "README.md").exists()
    sections(first=one_point("first", "a"), second=one_point("second", "b"))
    assert CliRunner().invoke(bench.main, ["--output", str(tmp_path)]).exit_code == 0
    assert [(point.section, point.key) for point in read_points(tmp_path)] == [
        ("first", {"ask": "a"}),
        ("second", {"ask": "b"}),
    ]


def test_a_section_that_cannot_be_had_costs_only_itself(sections: Callable[..., None], tmp_path: Path) -> None:
    sections(first=impossible, second=one_point("second", "b"))
    result = CliRunner().invoke(bench.main, ["--output", str(tmp_path)])
    assert result.exit_code == 1
    assert "first is left out: there is no perf_analyzer; fetch it" in result.output
    assert [point.section for point in read_points(tmp_path)] == ["second"]


def test_points_of_other_settings_are_refused(sections: Callable[..., None], tmp_path: Path) -> None:
    sections(first=one_point("first", "a"))
    assert CliRunner().invoke(bench.main, ["--output", str(tmp_path)]).exit_code == 0
    result = CliRunner().invoke(bench.main, ["--output", str(tmp_path), "--rounds", "9"])
    assert result.exit_code == 1
    assert "differs in: rounds; give --fresh to begin anew" in result.output
    assert CliRunner().invoke(bench.main, ["--output", str(tmp_path), "--rounds", "9", "--fresh"]).exit_code == 0
