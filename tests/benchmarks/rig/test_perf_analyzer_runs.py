"""The real perf_analyzer against a real tritonserver, for one short point."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from rich.progress import Progress

from benchmarks import ROOT
from benchmarks.rig.perf_analyzer import Load, find_analyzer, measure, write_input, write_users
from benchmarks.rig.points import Points
from benchmarks.rig.run import BenchRun
from benchmarks.rig.tritonserver import tritonserver
from ncf.export.export import export
from ncf.training.run_directory import Run

pytestmark = pytest.mark.e2e

SCRIPT = ROOT / "benchmarks/tools/get_perf_analyzer.sh"


def test_a_short_point_and_one_of_a_model_that_is_not_there(tiny_run: Run, tmp_path: Path) -> None:
    subprocess.run([SCRIPT], check=True, timeout=120)
    analyzer = find_analyzer()
    export(tiny_run, tmp_path / "r", "m", device="cpu")
    data = write_input(tmp_path / "input.json", {"user_index": len(tiny_run.users), "item_index": len(tiny_run.items)})
    run = BenchRun(tmp_path, Points(tmp_path / "points", {}), 1, 0.9, True, "cpu", Progress(disable=True))
    users = write_users(tmp_path / "users.json", len(tiny_run.users))
    with tritonserver(run, tmp_path / "r", "m", "m_query") as triton:
        closed = measure(analyzer, Load("m", "http", 4, concurrency=2), triton.ports["http"], data, 0.9)
        queries = [
            measure(analyzer, Load("m_query", protocol, 3, concurrency=2), triton.ports[protocol], users, 0.9)
            for protocol in ("http", "grpc")
        ]
        wrong = measure(analyzer, Load("n", "http", 1, concurrency=1), triton.ports["http"], data, 0.9)
    for outcome in (closed, *queries):
        assert not outcome.error or outcome.error.startswith("unstable:")  # on a busy machine
        assert {"requests_per_s", "rows_per_s", "p50_ms", "p99_ms", "server_queue_us", "others"} <= {*outcome.figures}
    assert str(tmp_path) not in closed.command
    assert closed.figures["rows_per_s"] == pytest.approx(4 * closed.figures["requests_per_s"])
    assert not wrong.figures
    assert "perf_analyzer ended with 99: error: failed to get model metadata" in wrong.error
