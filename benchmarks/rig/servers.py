"""Servers to send load to: Triton's own SageMaker endpoint, and the whole `serve`, each as processes of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.rig.recommender import Recommender
from benchmarks.rig.run import BenchRun
from benchmarks.rig.starting import free_ports, process, wait_for
from benchmarks.rig.wrk import Target
from serve.supervisor.ports import LOOPBACK
from serve.triton.runtime import find_runtime

PATH = "/invocations"
SERVE = Path(sys.executable).parent / "serve"


@contextlib.contextmanager
def native(run: BenchRun, recommender: Recommender) -> Iterator[Target]:
    """Triton's SageMaker endpoint in single-model mode; only its log level differs from the default."""
    (port,) = free_ports(1)
    scratch = Path(tempfile.mkdtemp(dir=run.folder))
    prefix = f"bench_{secrets.token_hex(4)}_"
    runtime = find_runtime(scratch)
    command = [
        str(runtime.program), f"--model-repository={recommender.repository}", "--model-control-mode=explicit",
        f"--load-model={recommender.name}", "--allow-sagemaker=true", f"--sagemaker-port={port}", "--allow-http=false",
        "--allow-grpc=false", "--allow-metrics=false", "--log-info=false",
        f"--backend-config=python,shm-region-prefix-name={prefix}", *runtime.arguments,
    ]  # fmt: skip
    environment = {**runtime.environment, "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": recommender.name}
    try:
        with answering(run, "native", command, environment, port) as target:
            yield target
    finally:
        for region in Path("/dev/shm").glob(f"{prefix}*"):  # a killed server leaves them behind  # noqa: S108
            region.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_serve(
    run: BenchRun,
    repository: Path,
    cores: frozenset[int] = frozenset(),
    name: str = "serve",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Target]:
    """`serve` as users start it; `settings` are environment variables that it gets in addition.

    With `cores` all its processes, Triton's included, are pinned to these cores.
    """
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "SERVE_MODEL_REPOSITORY": str(repository),
        "SERVE_BIND_ADDRESS": LOOPBACK,
        "SAGEMAKER_BIND_TO_PORT": str(port),
        **(settings or {}),
    }
    pinned = ["taskset", "-c", ",".join(map(str, sorted(cores)))] if cores else []
    with answering(run, name, [*pinned, str(SERVE)], environment, port) as target:
        yield target


@contextlib.contextmanager
def answering(run: BenchRun, name: str, command: list[str], environment: dict[str, str], port: int) -> Iterator[Target]:
    """Start a server and wait until it answers GET /ping with 200."""
    log = Path(tempfile.mkdtemp(dir=run.folder)) / "log"
    with process(command, environment, log) as started:
        with run.steps(f"starting {name}"):
            wait_for(lambda: pings(port), started, log)
        yield Target(name, port, PATH, started.pid)


def pings(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{LOOPBACK}:{port}/ping", timeout=2) as answer:
        return bool(answer.status == 200)
    return False
