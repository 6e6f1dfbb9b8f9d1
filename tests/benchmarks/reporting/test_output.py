"""What the report may replace: an earlier report, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from benchmarks.reporting.report import write_report
from benchmarks.rig.points import Points
from tests.benchmarks.reporting.test_report import SETTINGS, add_ladder


def test_a_readme_that_is_no_report_is_not_replaced(tmp_path: Path) -> None:
    points = Points(tmp_path / "points", SETTINGS)
    add_ladder(points)
    (tmp_path / "README.md").write_text("precious")
    (tmp_path / "peers.png").write_text("precious")
    with pytest.raises(click.ClickException, match="is of no earlier report; choose another --output"):
        write_report(points, tmp_path)
    assert (tmp_path / "README.md").read_text() == (tmp_path / "peers.png").read_text() == "precious"
    for _ in range(2):
        write_report(points, tmp_path / "report")
