"""The exported modules called in process, without any server: what the device itself can do, batch by batch.

The form is that of NVIDIA's own table of NCF: a model, a precision and a batch of pairs that lie on the device, timed
from the call to the end of the device's work. Every call gets other random pairs than the one before it.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks.rig.points import Key
from benchmarks.rig.processes import unrelated_seconds
from benchmarks.rig.rig import Times, share
from benchmarks.rig.run import FACTORS, MODEL, BenchRun
from ncf.export.export import MAX_BATCH_SIZE_TOPK
from ncf.export.modules import TotalScorer
from ncf.models.neural import build_model

SECTION = "in_process"
BATCHES = (1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)
MOST_ON_CPU = 65_536
TOPK_BATCHES = (1, 16, MAX_BATCH_SIZE_TOPK)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TOPK = "topk"
# The shape of NVIDIA's table: MovieLens-20M, 64 factors; three layers over embeddings of 128 are its 256-256-128-64.
NVIDIA_USERS, NVIDIA_ITEMS, NVIDIA_FACTORS = 138_493, 26_744, 64
POOL = 16  # different batches that lie on the device
WARM_CALLS, WARM_SECONDS = 5, 0.5  # TorchScript compiles in its first calls; an idle device's clock has to rise
LEAST_CALLS = 10


@dataclass(frozen=True)
class Exported:
    """A scripted module in a file, and the number of indices each of its arguments has."""

    file: Path
    sizes: tuple[int, ...]

    def load(self, device: torch.device, dtype: torch.dtype) -> torch.jit.ScriptModule:
        module: torch.jit.ScriptModule = torch.jit.load(str(self.file), map_location=device)  # type: ignore[no-untyped-call]
        return module.to(dtype).eval()

    def batches(self, rows: int, device: torch.device) -> list[Tensor]:
        """Random indices, each int64 [arguments, rows, 1]."""
        return [
            torch.stack([torch.randint(size, (rows, 1), device=device) for size in self.sizes]) for _ in range(POOL)
        ]


def run(run: BenchRun) -> None:
    """Every model, precision and batch that has not been measured."""
    device = torch.device("cuda" if run.bench.device == "gpu" else "cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise click.ClickException(
            f"--device is gpu, and PyTorch {torch.__version__} sees none; install a build of PyTorch for CUDA, see "
            "that nvidia-smi works, or give --device cpu"
        )
    missing = run.points.missing(SECTION, keys(run.bench.device))
    task = run.bench.progress.add_task("in process", total=len(missing))
    for key in missing:
        model, rows = str(key["model"]), int(key["batch"])
        try:
            module = exported(run, model).load(device, DTYPES[str(key["dtype"])])
            batches = exported(run, model).batches(rows, device)
            with torch.inference_mode():
                call = as_graph(module, batches) if key.get("graph") == "yes" else as_it_is(module)
                figures = measured(call, batches, rows, device, run.bench.seconds)
            run.points.add(SECTION, key, figures)
        except (RuntimeError, click.ClickException) as error:
            said = describe(key, error)
            run.points.add(SECTION, key, {}, said)
            run.bench.say(said)
        finally:
            call = module = batches = None  # type: ignore[assignment]  # before the next is loaded: a batch may fill the device
            if device.type == "cuda":
                gc.collect()
                torch.cuda.empty_cache()
        run.bench.progress.advance(task)
    run.bench.progress.remove_task(task)


def keys(device: str) -> list[Key]:
    """All points of a device. Graphs come last: a capture that fails must not touch what is measured without one."""
    if device == "cpu":
        scored = [
            {"device": device, "dtype": "fp32", "model": model, "batch": rows}
            for model in models()
            for rows in BATCHES
            if rows <= MOST_ON_CPU
        ]
        return [*scored, *({"device": device, "dtype": "fp32", "model": TOPK, "batch": rows} for rows in TOPK_BATCHES)]
    scored = [
        {"device": device, "dtype": dtype, "model": model, "batch": rows, "graph": graph}
        for graph in ("no", "yes")
        for model in models()
        for dtype in DTYPES
        for rows in BATCHES
    ]
    # The top-K model cannot be captured: how many items its users have seen decides the size of what it works on.
    ranked = [{"device": device, "dtype": "fp32", "model": TOPK, "batch": n, "graph": "no"} for n in TOPK_BATCHES]
    at = len(scored) // 2
    return [*scored[:at], *ranked, *scored[at:]]


def models() -> tuple[str, str]:
    """The run's own model, and NVIDIA's."""
    return f"{MODEL} {FACTORS}, ML-1M", f"{MODEL} {NVIDIA_FACTORS}, ML-20M"


def exported(run: BenchRun, model: str) -> Exported:
    """The file of a model; those that are not there yet are made."""
    ours, _ = models()
    if model in (ours, TOPK):
        recommender = run.recommender
        version = str(recommender.exported.version)
        if model == TOPK:
            return Exported(recommender.exported.topk / version / "model.pt", (recommender.num_users,))
        return Exported(
            recommender.exported.score / version / "model.pt", (recommender.num_users, recommender.num_items)
        )
    file = run.bench.folder / "in_process_nvidia.pt"
    if not file.exists():  # as `ncf export` does it, without the two models that rank
        torch.manual_seed(0)
        built = build_model(MODEL, NVIDIA_USERS, NVIDIA_ITEMS, NVIDIA_FACTORS)
        scorer = TotalScorer(built, NVIDIA_USERS, NVIDIA_ITEMS).eval()
        file.write_bytes(torch.jit.script(scorer).save_to_buffer())  # type: ignore[no-untyped-call]
    return Exported(file, (NVIDIA_USERS, NVIDIA_ITEMS))


Call = Callable[[Tensor], Any]


def as_it_is(module: torch.jit.ScriptModule) -> Call:
    return lambda indices: module(*indices)


def as_graph(module: torch.jit.ScriptModule, batches: list[Tensor]) -> Call:
    """A call as one CUDA graph, which costs one launch; copying a batch to where the graph reads is part of it.

    Raises click.ClickException if the module cannot be captured.
    """
    given = batches[0].clone()
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        # The stream is set here too: where a capture fails, torch.cuda.graph alone would leave it set.
        with torch.cuda.stream(stream):
            for _ in range(WARM_CALLS):
                module(*given)
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, stream=stream):
                score = module(*given)
    except RuntimeError as error:
        raise click.ClickException(
            f"cannot be captured as a CUDA graph ({first_line(error)}); graph=no has its figures"
        ) from error
    torch.cuda.current_stream().wait_stream(stream)

    def call(indices: Tensor) -> Tensor:
        given.copy_(indices)
        graph.replay()
        return score

    return call


def measured(call: Call, batches: list[Tensor], rows: int, device: torch.device, seconds: float) -> dict[str, Any]:
    """Calls one after the other for some seconds, each until the device has finished it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    pool = itertools.cycle(batches)

    def timed(seconds: float, at_least: int) -> Times:
        times: Times = []
        end = time.perf_counter() + seconds
        while len(times) < at_least or time.perf_counter() < end:
            indices = next(pool)
            wait()
            began = time.perf_counter()
            call(indices)
            wait()
            times.append(time.perf_counter() - began)
        return times

    timed(min(WARM_SECONDS, seconds), WARM_CALLS)
    began, unrelated = time.perf_counter(), unrelated_seconds()
    times = timed(seconds, LEAST_CALLS)
    unrelated, elapsed = unrelated_seconds() - unrelated, time.perf_counter() - began
    rate = len(times) / sum(times)
    return {
        "samples_per_s": rate * rows,
        "requests_per_s": rate,
        **{f"p{part}_ms": 1e3 * share(times, part / 100) for part in (50, 90, 95, 99)},
        "longest_ms": 1e3 * max(times),
        "requests": len(times),
        "others": max(0.0, unrelated / elapsed),
    }


def describe(key: Key, error: Exception) -> str:
    """What failed and why, in one line."""
    what = f"{key['model']}, {key['dtype']}, batch {key['batch']:,}"
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return f"{what}: the GPU has not enough free memory; end what else uses it (nvidia-smi)"
    return f"{what}: {error.message if isinstance(error, click.ClickException) else first_line(error)}"


def first_line(error: Exception) -> str:
    """Without the trace that TorchScript adds: its last line that says something is the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and "TorchScript" in lines[0]:
        return next((line for line in reversed(lines) if "Error" in line), lines[-1])
    return lines[0] if lines else type(error).__name__
