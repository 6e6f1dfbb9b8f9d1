"""Section "in_process": the exported modules called without a server, which shows the limit of the device.

The form is that of NVIDIA's table for NCF: a model, a precision, and a batch of pairs in the device's memory, timed
from the call until the device has finished. Consecutive calls get different random pairs.
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
from benchmarks.rig.run import FACTORS, MODEL, BenchRun
from benchmarks.rig.timing import Times, latency
from ncf.export.model_configs import MAX_BATCH_SIZE_QUERY
from ncf.export.modules import TotalScorer
from ncf.export.query import Query
from ncf.models.neural import build_model

SECTION = "in_process"
BATCHES = (1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)
MOST_ON_CPU = 65_536
QUERY_BATCHES = (1, 16, MAX_BATCH_SIZE_QUERY)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
QUERY = "query"
# The shape of NVIDIA's table: MovieLens-20M, 64 factors; three layers over embeddings of 128 are its 256-256-128-64.
NVIDIA_USERS, NVIDIA_ITEMS, NVIDIA_FACTORS = 138_493, 26_744, 64
POOL = 16  # different batches in the device's memory
WARM_CALLS, WARM_SECONDS = (
    5,
    0.5,
)  # TorchScript compiles in its first calls, and an idle device raises its clock under load
LEAST_CALLS = 10


@dataclass(frozen=True)
class Exported:
    """The file of a scripted module, for each argument the number of its valid indices, and what is made of them."""

    file: Path
    sizes: tuple[int, ...]
    form: Callable[[Tensor], Tensor] = lambda indices: indices

    def load(self, device: torch.device, dtype: torch.dtype) -> torch.jit.ScriptModule:
        module: torch.jit.ScriptModule = torch.jit.load(str(self.file), map_location=device)  # type: ignore[no-untyped-call]
        return module.to(dtype).eval()

    def batches(self, rows: int, device: torch.device) -> list[Tensor]:
        """Random indices, each int64 [arguments, rows, 1], in the form that the module takes."""
        return [
            self.form(torch.stack([torch.randint(size, (rows, 1), device=device) for size in self.sizes]))
            for _ in range(POOL)
        ]


def lone_users(indices: Tensor) -> Tensor:
    """A query for each user [1, rows, 1]: int64 [1, rows, 1, 2]."""
    return torch.stack([torch.full_like(indices, Query.USER), indices], dim=3)


def run(run: BenchRun) -> None:
    """Measure every model, precision and batch that has no point yet."""
    device = torch.device("cuda" if run.device == "gpu" else "cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise click.ClickException(
            f"--device is gpu, but PyTorch {torch.__version__} sees no GPU; install a build of PyTorch for CUDA, check "
            "that nvidia-smi works, or give --device cpu"
        )
    missing = run.points.missing(SECTION, keys(run.device))
    with run.steps("in process", len(missing)) as advance:
        for key in missing:
            model, rows = str(key["model"]), int(key["batch"])
            try:
                module = exported(run, model).load(device, DTYPES[str(key["dtype"])])
                batches = exported(run, model).batches(rows, device)
                with torch.inference_mode():
                    call = as_graph(module, batches) if key.get("graph") == "yes" else as_it_is(module)
                    figures = measured(call, batches, rows, device, run.seconds)
                run.points.add(SECTION, key, figures)
            except (RuntimeError, click.ClickException) as error:
                message = describe(key, error)
                run.points.add(SECTION, key, {}, message)
                run.say(message)
            finally:
                # Free the device's memory before the next module is loaded: one batch may need all of it.
                call = module = batches = None  # type: ignore[assignment]
                if device.type == "cuda":
                    gc.collect()
                    torch.cuda.empty_cache()
            advance(1)


def keys(device: str) -> list[Key]:
    """All points of a device. Graphs come last: a capture that fails must not disturb the points without graphs."""
    if device == "cpu":
        scored = [
            {"device": device, "dtype": "fp32", "model": model, "batch": rows}
            for model in models()
            for rows in BATCHES
            if rows <= MOST_ON_CPU
        ]
        return [
            *scored,
            *({"device": device, "dtype": "fp32", "model": QUERY, "batch": rows} for rows in QUERY_BATCHES),
        ]
    scored = [
        {"device": device, "dtype": dtype, "model": model, "batch": rows, "graph": graph}
        for graph in ("no", "yes")
        for model in models()
        for dtype in DTYPES
        for rows in BATCHES
    ]
    # The query model cannot be captured: the sizes of its tensors depend on how many items the users have seen.
    ranked = [{"device": device, "dtype": "fp32", "model": QUERY, "batch": n, "graph": "no"} for n in QUERY_BATCHES]
    at = len(scored) // 2
    return [*scored[:at], *ranked, *scored[at:]]


def models() -> tuple[str, str]:
    """The names of the run's own model and of NVIDIA's."""
    return f"{MODEL} {FACTORS}, ML-1M", f"{MODEL} {NVIDIA_FACTORS}, ML-20M"


def exported(run: BenchRun, model: str) -> Exported:
    """The file of a model, which is made if it is missing."""
    ours, _ = models()
    if model in (ours, QUERY):
        recommender = run.recommender
        version = str(recommender.exported.version)
        if model == QUERY:
            return Exported(recommender.exported.query / version / "model.pt", (recommender.num_users,), lone_users)
        return Exported(
            recommender.exported.score / version / "model.pt", (recommender.num_users, recommender.num_items)
        )
    file = run.folder / "in_process_nvidia.pt"
    if not file.exists():  # as `ncf export` does it, without the model that ranks items
        torch.manual_seed(0)
        built = build_model(MODEL, NVIDIA_USERS, NVIDIA_ITEMS, NVIDIA_FACTORS)
        scorer = TotalScorer(built, NVIDIA_USERS, NVIDIA_ITEMS).eval()
        file.write_bytes(torch.jit.script(scorer).save_to_buffer())  # type: ignore[no-untyped-call]
    return Exported(file, (NVIDIA_USERS, NVIDIA_ITEMS))


Call = Callable[[Tensor], Any]


def as_it_is(module: torch.jit.ScriptModule) -> Call:
    return lambda indices: module(*indices)


def as_graph(module: torch.jit.ScriptModule, batches: list[Tensor]) -> Call:
    """A call as one CUDA graph, which costs one launch. It includes the copy of a batch to the graph's input.

    Raises click.ClickException if the module cannot be captured.
    """
    given = batches[0].clone()
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        # The stream is set here too, because torch.cuda.graph leaves it set if a capture fails.
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
    """Call the module for some seconds, one call after the other, each timed until the device has finished."""
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
        **latency(times),
        "requests": len(times),
        "others": max(0.0, unrelated / elapsed),
    }


def describe(key: Key, error: Exception) -> str:
    """The point that failed and the reason, in one line."""
    case = f"{key['model']}, {key['dtype']}, batch {key['batch']:,}"
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return f"{case}: the GPU has not enough free memory; end other processes that use it (nvidia-smi)"
    return f"{case}: {error.message if isinstance(error, click.ClickException) else first_line(error)}"


def first_line(error: Exception) -> str:
    """The reason of an error, without TorchScript's trace, whose last line with "Error" is the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and "TorchScript" in lines[0]:
        return next((line for line in reversed(lines) if "Error" in line), lines[-1])
    return lines[0] if lines else type(error).__name__
