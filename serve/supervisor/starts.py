"""The commands with which tritonserver and gunicorn are started."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from serve.models.hosted import Hosted
from serve.settings import Settings
from serve.supervisor.child import spawn
from serve.supervisor.ports import LOOPBACK, PublicPorts, is_free, triton_ports
from serve.supervisor.scratch import clear_shared_memory, free_shared_memory
from serve.triton.address import ADDRESS_FILE, TritonAddress
from serve.triton.arguments import grpc_host, triton_arguments
from serve.triton.gpus import count_gpus
from serve.triton.runtime import TritonRuntime

# SageMaker sends SIGKILL 30 s after SIGTERM. All has ended after 25 s: gunicorn finishes requests, then Triton stops.
GUNICORN_SECONDS, TRITON_SECONDS = 17, 5
INPUT_SIZE = "--http-max-input-size"
# gunicorn would take arguments from these variables, but an endpoint's environment is not meant for gunicorn.
GUNICORNS_OWN = ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY")


@dataclass
class TritonStarter:
    """Starts tritonserver: `instances` is the least number of its Python backend's processes, `prefix` the beginning
    of the names of their shared memory. `own` are the ports of the last start."""

    settings: Settings
    runtime: TritonRuntime
    models: Hosted
    ports: PublicPorts
    scratch: Path
    prefix: str
    instances: int
    own: tuple[int, int, int] = (0, 0, 0)

    def __call__(self) -> subprocess.Popen[bytes]:
        """Raises PortError."""
        clear_shared_memory(self.prefix)
        # New ports for every start, because a port that was free before may be taken now.
        self.own = triton_ports(self.settings, self.ports)
        address = TritonAddress(LOOPBACK, *self.own, secrets.token_hex(16), grpc_host(self.settings))
        address.write(self.scratch / ADDRESS_FILE)
        arguments = triton_arguments(
            self.settings,
            self.models.folder,
            self.models.to_load(),
            address,
            self.prefix,
            shm_free=free_shared_memory(),
            gpus=count_gpus(),
            exit_seconds=TRITON_SECONDS - 1,
            instances=self.instances,
        )
        if self.runtime.knows(INPUT_SIZE):  # newer releases limit the size of a body, which `serve` has limited already
            arguments.insert(0, f"{INPUT_SIZE}={max(2**26, self.settings.max_body_bytes)}")
        command = [str(self.runtime.program), *self.runtime.arguments, *arguments]
        # Python takes modules from the current folder, in models' processes, too.
        return spawn(command, self.runtime.environment, cwd=self.scratch)

    def lost_a_port(self) -> bool:
        """Whether another process has taken a port before tritonserver, which has ended, could open it."""
        return not all(is_free(port) for port in self.own)


def start_gunicorn(settings: Settings, public: socket.socket, scratch: Path) -> subprocess.Popen[bytes]:
    """Start gunicorn and its workers, which accept the connections of the socket `public`."""
    command = [
        sys.executable, "-m", "gunicorn",
        f"serve.worker.application:create_application('{scratch}')",
        "--bind", f"fd://{public.fileno()}",
        "--workers", str(settings.workers),
        "--worker-class", "serve.worker.gunicorn_worker.Worker",
        "--graceful-timeout", str(GUNICORN_SECONDS),
        "--log-level", "warning",
        "--no-control-socket",
    ]  # fmt: skip
    # gunicorn takes modules and a gunicorn.conf.py from the current folder, so it starts in a folder of ours.
    paths = {
        "SERVE_MODEL_REPOSITORY": str(settings.model_repository.absolute()),
        "SERVE_MULTI_MODEL_ROOT": str(settings.multi_model_root.absolute()),
    }
    environment = {name: value for name, value in os.environ.items() if name not in GUNICORNS_OWN}
    return spawn(command, environment | paths, public.fileno(), cwd=scratch)
