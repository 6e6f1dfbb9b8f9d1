"""A tritonserver without `serve`, for the sections that send requests to Triton itself, over HTTP and gRPC."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.rig.run import BenchRun
from benchmarks.rig.starting import free_ports, process, wait_for
from serve.supervisor.ports import LOOPBACK
from serve.triton.address import TritonAddress
from serve.triton.admin import TritonAdmin
from serve.triton.runtime import find_runtime


@dataclass(frozen=True)
class Triton:
    """A tritonserver that runs: its ports by protocol (http, grpc), and its process id."""

    ports: dict[str, int]
    process: int


@contextlib.contextmanager
def tritonserver(run: BenchRun, repository: Path, *models: str) -> Iterator[Triton]:
    """Start it as `serve` does, with these models. Raises click.ClickException if one of them is not ready."""
    http_port, grpc_port = free_ports(2)
    scratch = Path(tempfile.mkdtemp(dir=run.folder))
    runtime = find_runtime(scratch)
    command = [
        str(runtime.program), f"--model-repository={repository}", "--model-control-mode=explicit",
        "--exit-on-error=false", *(f"--load-model={model}" for model in models), f"--http-address={LOOPBACK}",
        f"--http-port={http_port}", f"--grpc-address={LOOPBACK}", f"--grpc-port={grpc_port}", "--allow-metrics=false",
        "--log-info=false", *runtime.arguments,
    ]  # fmt: skip
    log = scratch / "log"
    with process(command, runtime.environment, log) as started:
        admin = TritonAdmin(lambda: TritonAddress(LOOPBACK, http_port, grpc_port))
        with run.steps(f"starting tritonserver with {', '.join(models)}"):
            wait_for(admin.is_live, started, log)
        not_ready = [state for state in admin.index() if not state.ready and state.name in models]
        if not_ready:
            raise click.ClickException(f"model {not_ready[0].name} is not ready: {not_ready[0].reason}")
        yield Triton({"http": http_port, "grpc": grpc_port}, started.pid)
