"""Points on disk: what is measured is not measured again, and no run mixes with another."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from benchmarks.rig.points import FILE, Points, read_points

SETTINGS = {"cores": 2, "rounds": 5}
KEYS = [{"rung": rung, "round": number} for number in range(2) for rung in ("a", "b")]


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    points = Points(tmp_path, SETTINGS)
    points.add("ladder", KEYS[2], {"p50_ms": 0.25}, command="wrk")
    points.add("peers", KEYS[0], {}, error="does not start")
    again = Points(tmp_path, SETTINGS)
    assert again.missing("ladder", KEYS) == [KEYS[0], KEYS[1], KEYS[3]]
    assert again.missing("ladder", [{"round": 1, "rung": "a"}]) == []  # in any order
    assert again.points == points.points
    assert again.of("ladder")[0].figures == {"p50_ms": 0.25}


def test_what_failed_is_tried_again_and_the_last_try_counts(tmp_path: Path) -> None:
    points = Points(tmp_path, SETTINGS)
    points.add("peers", KEYS[0], {}, error="does not start")
    points.add("peers", KEYS[1], {"p50_ms": 3.0}, error="unstable")
    assert points.missing("peers", KEYS[:2]) == [KEYS[0]]
    points.add("peers", KEYS[0], {"p50_ms": 1.0})
    assert points.missing("peers", KEYS[:2]) == []
    assert [(point.error, point.figures) for point in points.of("peers")] == [
        ("", {"p50_ms": 1.0}),
        ("unstable", {"p50_ms": 3.0}),
    ]


def test_a_line_cut_off_costs_only_itself(tmp_path: Path) -> None:
    points = Points(tmp_path, SETTINGS)
    for key in KEYS[:2]:
        points.add("ladder", key, {"p50_ms": 1.0})
    path = tmp_path / FILE
    path.write_text(path.read_text()[:-20])
    assert [point.key for point in read_points(tmp_path)] == KEYS[:1]
    Points(tmp_path, SETTINGS).add("ladder", KEYS[3], {"p50_ms": 2.0})
    assert [point.key for point in read_points(tmp_path)] == [KEYS[0], KEYS[3]]


def test_points_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    Points(tmp_path, SETTINGS)
    with pytest.raises(click.ClickException, match="other settings: rounds; give --fresh"):
        Points(tmp_path, {**SETTINGS, "rounds": 3})
