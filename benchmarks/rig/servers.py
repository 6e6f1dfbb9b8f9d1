"""Servers to load: Triton's own SageMaker endpoint, and the whole `serve`, each as a process of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.rig.rig import Bench, Recommender, free_ports, process, wait_for
from benchmarks.rig.wrk import Target
from serve.supervisor.ports import LOOPBACK
from serve.triton.runtime import find_runtime

PATH = "/invocations"
SERVE = Path(sys.executable).parent / "serve"


@contextlib.contextmanager
def native(bench: Bench, recommender: Recommender) -> Iterator[Target]:
    """Triton's SageMaker endpoint in single-model mode, quiet; everything else as it comes."""
    (port,) = free_ports(1)
    scratch = Path(tempfile.mkdtemp(dir=bench.folder))
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
        with running(bench, "native", command, environment, port) as target:
            yield target
    finally:
        for left in Path("/dev/shm").glob(f"{prefix}*"):  # a killed server leaves its regions  # noqa: S108
            left.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_serve(
    bench: Bench,
    recommender: Recommender,
    program: Path,
    cores: frozenset[int] = frozenset(),
    name: str = "serve",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Target]:
    """`serve` as users start it, its Triton and its model processes on `cores` alone if some are given.

    `settings` are further environment variables.
    """
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "SERVE_MODEL_REPOSITORY": str(recommender.repository),
        "SERVE_BIND_ADDRESS": LOOPBACK,
        "SAGEMAKER_BIND_TO_PORT": str(port),
        **(settings or {}),
    }
    pinned = ["taskset", "-c", ",".join(map(str, sorted(cores)))] if cores else []
    with running(bench, name, [*pinned, str(program)], environment, port) as target:
        yield target


@contextlib.contextmanager
def running(bench: Bench, name: str, command: list[str], environment: dict[str, str], port: int) -> Iterator[Target]:
    """From the first /ping that is answered by 200."""
    task = bench.progress.add_task(f"starting {name}", total=None)
    log = Path(tempfile.mkdtemp(dir=bench.folder)) / "log"
    with process(command, environment, log) as started:
        wait_for(lambda: pings(port), started, log)
        bench.progress.remove_task(task)
        yield Target(name, port, PATH, started.pid)


def pings(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{LOOPBACK}:{port}/ping", timeout=2) as answer:
        return bool(answer.status == 200)
    return False
