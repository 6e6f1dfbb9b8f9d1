"""The client of Triton that ranks in three ways, and the loads of `catalogue` and `device`, on a real tritonserver."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

from benchmarks.ranking import catalogue, device
from benchmarks.ranking.client import Client
from benchmarks.rig.points import Points
from benchmarks.rig.run import BenchRun
from benchmarks.rig.tritonserver import tritonserver

pytestmark = pytest.mark.e2e


def test_the_three_ways_agree_and_are_measured(tmp_path: Path) -> None:
    run = BenchRun(tmp_path, Points(tmp_path / "points", {}), 1, 0.05, True, "cpu", Progress(disable=True))
    recommender = run.random("gmf", 8, 50, 600)
    name = recommender.name
    with tritonserver(run, recommender.repository, name, f"{name}_query") as triton:
        client = Client(triton, recommender)
        missing = catalogue.keys("small", 1)

        async def measure() -> tuple[dict[str, Any], dict[str, Any]]:
            await catalogue.measure(run, triton, client, missing)  # checks that the ways agree
            figures = await device.one_user(client, 0.05), await device.full_batches(client, 0.05)
            for connection in client.pool._idle:
                connection.transport.close()
            await asyncio.sleep(0.01)  # for the transports to close
            return figures

        one_user, full = asyncio.run(measure())  # one loop: the client's connections belong to it
    points = run.points.of("catalogue")
    assert [point.key for point in points] == missing
    for point in points:
        assert point.figures["requests_per_s"] > 0
        assert 0 < point.figures["p50_ms"] <= point.figures["p99_ms"]
        assert sum(point.figures["cpu_us"].values()) > 0
    assert 0 < one_user["model_ms"] <= one_user["triton_ms"]
    assert one_user["client_ms"] > 0  # a median; beside other load Triton's means may be larger
    assert full["users_per_s"] > 0
