"""The section `in_process` on a CPU: its points, their figures, and the errors of points that fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import pytest
import torch
from rich.progress import Progress

from benchmarks.rig.points import Points
from benchmarks.rig.recommender import Recommender, random_recommender
from benchmarks.rig.run import BenchRun
from benchmarks.serving import in_process
from benchmarks.serving.in_process import QUERY, SECTION, describe, exported, keys, models

CPU = torch.device("cpu")


def short_run(folder: Path, points: Points) -> BenchRun:
    return BenchRun(folder, points, 1, 0.001, True, "cpu", Progress(disable=True))


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return random_recommender(tmp_path_factory.mktemp("exported") / "r", "neumf", 8, 30, 200)


@pytest.fixture
def tiny(recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchRun:
    """A run whose models and batches are small."""
    monkeypatch.setattr(in_process, "BATCHES", (4, 32, 70_000))
    monkeypatch.setattr(in_process, "QUERY_BATCHES", (1, 8))
    monkeypatch.setattr(in_process, "NVIDIA_USERS", 50)
    monkeypatch.setattr(in_process, "NVIDIA_ITEMS", 40)
    made = short_run(tmp_path, Points(tmp_path / "points", {}))
    made.__dict__["recommender"] = recommender  # so that the run makes none
    return made


def test_every_point_of_a_cpu_is_measured_once(tiny: BenchRun) -> None:
    in_process.run(tiny)
    points = tiny.points.of(SECTION)
    assert [point.key for point in points] == keys("cpu")
    assert [(point.key["model"], point.key["batch"]) for point in points] == [
        *((model, rows) for model in models() for rows in (4, 32)),
        (QUERY, 1),
        (QUERY, 8),
    ]
    for point in points:
        figures = point.figures
        assert point.error == ""
        assert figures["requests"] >= 10
        assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
        assert figures["p99_ms"] <= figures["longest_ms"]
        assert figures["samples_per_s"] == pytest.approx(figures["requests_per_s"] * int(point.key["batch"]))
    in_process.run(short_run(tiny.folder, Points(tiny.points.folder, {})))
    assert len(Points(tiny.points.folder, {}).of(SECTION)) == len(points)


def test_a_run_goes_on_where_it_was(tiny: BenchRun) -> None:
    first, *rest = keys("cpu")
    tiny.points.add(SECTION, first, {"samples_per_s": 1.0})
    in_process.run(tiny)
    assert [point.key for point in tiny.points.of(SECTION)] == [first, *rest]
    assert tiny.points.of(SECTION)[0].figures == {"samples_per_s": 1.0}


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("fp16", 2e-2), ("bf16", 1e-1)])
def test_scores_of_every_batch_are_those_of_the_eager_model(tiny: BenchRun, dtype: str, tolerance: float) -> None:
    ours, _ = models()
    file = exported(tiny, ours)
    module = file.load(CPU, in_process.DTYPES[dtype])
    batches = file.batches(6, CPU)
    assert len({batch.numpy().tobytes() for batch in batches}) == len(batches)  # each call gets other pairs
    with torch.inference_mode():
        for batch in batches:
            found = in_process.as_it_is(module)(batch)
            expected = tiny.recommender.run.model(batch[0], batch[1])
            assert found.shape == (6, 1)
            assert torch.allclose(found.float(), expected, rtol=0, atol=tolerance)


def test_a_gpu_is_measured_with_graphs_last() -> None:
    listed = keys("gpu")
    assert len({str(sorted(key.items())) for key in listed}) == len(listed) == 2 * 2 * 3 * 6 + 3
    graphs = [key["graph"] for key in listed]
    assert graphs == sorted(graphs)
    assert {key["graph"] for key in listed if key["model"] == QUERY} == {"no"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_missing_is_named(tiny: BenchRun) -> None:
    with pytest.raises(click.ClickException, match=r"--device is gpu, but PyTorch .* sees no GPU"):
        in_process.run(replace(tiny, device="gpu"))


def test_a_point_that_fails_says_why_in_one_line(tiny: BenchRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError(
            "The following operation failed in the TorchScript interpreter.\nTraceback\nRuntimeError: no room\n"
        )

    monkeypatch.setattr(in_process, "as_it_is", fails)
    in_process.run(tiny)
    errors = {point.error for point in tiny.points.of(SECTION)}
    assert f"{QUERY}, fp32, batch 8: RuntimeError: no room" in errors
    assert len(errors) == len(keys("cpu"))


def test_a_full_gpu_is_told_plainly() -> None:
    key = {"model": "m", "dtype": "fp32", "batch": 1_048_576}
    assert describe(key, torch.cuda.OutOfMemoryError("CUDA out of memory. Tried …")) == (
        "m, fp32, batch 1,048,576: the GPU has not enough free memory; end other processes that use it (nvidia-smi)"
    )
