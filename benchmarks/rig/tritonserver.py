"""A tritonserver of its own for the sections that ask Triton itself, over HTTP and gRPC."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.rig.rig import Bench, free_ports, listens, process, wait_for
from serve.supervisor.ports import LOOPBACK
from serve.triton.address import TritonAddress
from serve.triton.admin import TritonAdmin
from serve.triton.runtime import find_runtime


@dataclass(frozen=True)
class Triton:
    """A server that runs: its ports by protocol (http, grpc), and its process."""

    ports: dict[str, int]
    process: int


@contextlib.contextmanager
def tritonserver(bench: Bench, repository: Path, *models: str) -> Iterator[Triton]:
    """Started as `serve` starts it, with these models ready. Raises click.ClickException."""
    http_port, grpc_port = free_ports(2)
    scratch = Path(tempfile.mkdtemp(dir=bench.folder))
    runtime = find_runtime(scratch)
    command = [
        str(runtime.program), f"--model-repository={repository}", "--model-control-mode=explicit",
        "--exit-on-error=false", *(f"--load-model={model}" for model in models), f"--http-address={LOOPBACK}",
        f"--http-port={http_port}", f"--grpc-address={LOOPBACK}", f"--grpc-port={grpc_port}", "--allow-metrics=false",
        "--log-info=false", *runtime.arguments,
    ]  # fmt: skip
    task = bench.progress.add_task(f"starting tritonserver with {', '.join(models)}", total=None)
    log = scratch / "log"
    try:
        with process(command, runtime.environment, log) as started:
            admin = TritonAdmin(TritonAddress(LOOPBACK, http_port, grpc_port))
            wait_for(lambda: admin.is_live() and listens(http_port), started, log)  # HTTP comes after gRPC
            bench.progress.remove_task(task)
            not_ready = [state for state in admin.index() if not state.ready and state.name in models]
            if not_ready:
                raise click.ClickException(f"{not_ready[0].name} is not ready: {not_ready[0].reason}")
            yield Triton({"http": http_port, "grpc": grpc_port}, started.pid)
    finally:
        if task in bench.progress.task_ids:
            bench.progress.remove_task(task)
