"""The command line of a room: its sections, its exit codes, and the points that it leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from benchmarks.reporting.report import write_report
from benchmarks.rig.command import command
from benchmarks.rig.points import read_points
from benchmarks.rig.run import BenchRun, Section
from benchmarks.serving.__main__ import ROOM, main

Sections = Callable[..., click.Command]


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> Sections:
    """A command with sections of the test, because the real ones measure for minutes."""

    def make(**runs: Section) -> click.Command:
        for name, run in runs.items():
            module = ModuleType(f"test_sections.{name}")
            module.run = run  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return command(replace(ROOM, package="test_sections", sections=dict.fromkeys(runs, "")), write_report)

    return make


def one_point(section: str, key: str) -> Section:
    def run(run: BenchRun) -> None:
        for missing in run.points.missing(section, [{"ask": key}]):
            run.points.add(section, missing, {"requests_per_s": 1.0})

    return run


def interrupted(run: BenchRun) -> None:
    raise KeyboardInterrupt


def impossible(run: BenchRun) -> None:
    raise click.ClickException("perf_analyzer is missing")


def test_sections_run_in_their_own_order() -> None:
    assert ROOM.chosen("ladder, sweep", False, "cpu") == ["sweep", "ladder"]
    assert ROOM.chosen(None, False, "cpu") == list(ROOM.sections)
    assert ROOM.chosen(None, True, "cpu") == list(ROOM.quick)
    assert ROOM.chosen(None, False, "gpu") == list(ROOM.on_gpu)


def test_an_unknown_section_is_named_before_any_tool_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without wrk
    result = CliRunner().invoke(main, ["--only", "lader", "--output", str(tmp_path / "points")])
    assert result.exit_code == 2
    assert "'lader' is not a section; choose from in_process, sweep, ladder" in result.output
    assert not (tmp_path / "points").exists()


def test_an_interrupted_run_keeps_its_points_and_is_continued(sections: Sections, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        sections(first=one_point("first", "a"), second=interrupted), ["--output", str(tmp_path)]
    )
    assert result.exit_code == 130
    assert "run the same command again to continue" in result.output
    assert (tmp_path / "report" / "README.md").exists()
    again = sections(first=one_point("first", "a"), second=one_point("second", "b"))
    assert CliRunner().invoke(again, ["--output", str(tmp_path)]).exit_code == 0
    assert [(point.section, point.key) for point in read_points(tmp_path)] == [
        ("first", {"ask": "a"}),
        ("second", {"ask": "b"}),
    ]


def test_a_section_that_cannot_run_does_not_stop_the_others(sections: Sections, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        sections(first=impossible, second=one_point("second", "b")), ["--output", str(tmp_path)]
    )
    assert result.exit_code == 1
    assert "first is left out: perf_analyzer is missing" in result.output
    assert [point.section for point in read_points(tmp_path)] == ["second"]


def test_points_of_other_settings_are_refused(sections: Sections, tmp_path: Path) -> None:
    bench = sections(first=one_point("first", "a"))
    assert CliRunner().invoke(bench, ["--output", str(tmp_path)]).exit_code == 0
    result = CliRunner().invoke(bench, ["--output", str(tmp_path), "--rounds", "9"])
    assert result.exit_code == 1
    assert "other settings: rounds; give --fresh to delete them" in result.output


def test_fresh_deletes_the_points_of_a_run_and_nothing_else(sections: Sections, tmp_path: Path) -> None:
    bench = sections(first=one_point("first", "a"))
    assert CliRunner().invoke(bench, ["--output", str(tmp_path)]).exit_code == 0
    (tmp_path / "notes.txt").write_text("mine")
    assert CliRunner().invoke(bench, ["--output", str(tmp_path), "--rounds", "9", "--fresh"]).exit_code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(read_points(tmp_path))) == 1
