"""The ladder with the real servers and load tools, a second for each rung."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from rich.progress import Progress

from benchmarks import ROOT
from benchmarks.rig.points import Points
from benchmarks.rig.run import BenchRun
from benchmarks.serving import ladder as bench_ladder

pytestmark = pytest.mark.e2e

# One rung for each load tool, to save time; the answers of all rungs are compared nevertheless.
RUNGS = {
    "1 pair": ["in process", "Triton gRPC", "Triton's SageMaker port", "serve, CSV"],
    bench_ladder.TOP: ["Triton HTTP", "serve, JSON"],
    bench_ladder.GMF: ["in process", "serve, JSON"],
}
TOOLS = ROOT / "benchmarks/tools"


def test_every_rung_answers_alike_and_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([TOOLS / "get_perf_analyzer.sh"], check=True, timeout=120)
    subprocess.run([TOOLS / "get_wrk.sh"], check=True, timeout=120)
    monkeypatch.setattr(bench_ladder, "CONCURRENCY", (4,))
    monkeypatch.setattr(bench_ladder, "GMF_CONCURRENCY", (4,))
    monkeypatch.setattr(bench_ladder, "ASKS", {asked: n for asked, n in bench_ladder.ASKS.items() if asked in RUNGS})
    monkeypatch.setattr(bench_ladder, "names", RUNGS.__getitem__)
    points = Points(tmp_path / "points", {})
    bench_ladder.run(BenchRun(tmp_path, points, 1, 1.0, False, "cpu", Progress(disable=True)))
    measured = points.of("ladder")
    assert [point.error for point in measured if point.error] == []
    assert {(point.key["ask"], point.key["rung"]) for point in measured} == {
        (asked, rung) for asked, rungs in RUNGS.items() for rung in rungs
    }
    for point in measured:
        figures = point.figures
        assert figures["requests_per_s"] > 0
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]
        assert not figures.get("errors")
        assert sum(figures["cpu_us"].values()) > 0
    served = next(point.figures for point in measured if point.key["rung"] == "serve, JSON")
    assert {"front", "tritonserver"} <= set(served["memory_mb"])
