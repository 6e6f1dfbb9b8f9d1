"""Starts tritonserver and gunicorn, watches both, and stops them in order.

Either one that dies is started again (serve/child.py); when that has been too often, or when it never came up at all,
everything stops with exit code 1 (why: docs/decisions.md). The public socket belongs to this process, so a port
that is taken is known before anything starts, and a restarting gunicorn loses no connection.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType

from serve.child import Child, StartError, spawn
from serve.errors import Unavailable
from serve.repository import Repository, RepositoryError
from serve.rollout import NO_REASON, Rollout
from serve.served import SERVED_FILE, VIEW_FOLDER
from serve.settings import Settings
from serve.triton_address import ADDRESS_FILE, KEY_HEADER, RESTRICTED, TritonAddress
from serve.triton_admin import TritonAdmin
from serve.triton_runtime import RuntimeNotFoundError, find_runtime
from serve.view import View

log = logging.getLogger("serve")

LOOPBACK = "127.0.0.1"
# SageMaker kills a container 30 s after SIGTERM: gunicorn has 20 of them to finish requests, Triton the rest.
GUNICORN_SECONDS, TRITON_SECONDS = 20, 6
TICK = 0.1


class PortError(StartError):
    """A port that was asked for cannot be had: a mistake in the settings, as any other."""

    exit_code = 2


class Supervisor:
    """`run()` serves until SIGTERM or SIGINT and returns the exit code."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = False
        self.ended = threading.Event()

    def run(self) -> int:
        began = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)
        # Triton's Python backend takes plain paths only: no space, nothing beyond ASCII.
        plain = re.fullmatch(r"[A-Za-z0-9._/-]+", tempfile.gettempdir()) is not None
        scratch = Path(tempfile.mkdtemp(prefix="serve-", dir=None if plain else "/tmp"))  # noqa: S108
        prefix = f"serve_{secrets.token_hex(4)}_"
        children: list[Child] = []
        try:
            rollout = self._rollout(scratch)
            public = self._bind()
            runtime = find_runtime(scratch)

            def start_triton() -> subprocess.Popen[bytes]:
                http_port, grpc_port, metrics_port = free_ports(3, self.settings.safe_port_range)
                address = TritonAddress(LOOPBACK, http_port, grpc_port, metrics_port, secrets.token_hex(16))
                address.write(scratch / ADDRESS_FILE)
                arguments = self._triton_arguments(rollout.view, address, prefix)
                return spawn([str(runtime.program), *arguments, *runtime.arguments], runtime.environment)

            triton = Child("tritonserver", start_triton)
            children.append(triton)
            gunicorn = Child("gunicorn", lambda: self._start_gunicorn(public, scratch))
            children.insert(0, gunicorn)
            self._watch(triton, gunicorn, TritonAdmin(scratch / ADDRESS_FILE), rollout, began)
            log.info("stopping: no new connections, requests in flight are finished")
            public.close()
            return 0
        except (StartError, RepositoryError, RuntimeNotFoundError) as error:
            log.error("%s", error)
            return getattr(error, "exit_code", 1)
        finally:
            self.ended.set()
            for child in children:
                child.stop(GUNICORN_SECONDS + 2 if child.name == "gunicorn" else TRITON_SECONDS)
            shutil.rmtree(scratch, ignore_errors=True)
            for left in Path("/dev/shm").glob(f"{prefix}*"):  # a killed server leaves its regions  # noqa: S108
                left.unlink(missing_ok=True)
            if children:
                log.info("stopped")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _rollout(self, scratch: Path) -> Rollout:
        """The repository's models, laid out for Triton."""
        path = self.settings.model_repository.absolute()
        if not path.is_dir():
            raise StartError(f"SERVE_MODEL_REPOSITORY {path} is no folder; `ncf export --repository {path}` makes one")
        repository = Repository.scan(path)
        for name in repository.passed_over:
            log.error("%s is passed over: name a model with letters, digits, '.', '_' and '-' only", path / name)
        models = repository.to_load(self.settings.default_model_name)
        view = View(path, scratch / VIEW_FOLDER)
        view.folder.mkdir()
        rollout = Rollout(view, scratch / SERVED_FILE)
        rollout.lay_out(models)
        return rollout

    def _bind(self) -> socket.socket:
        address, port = self.settings.bind_address, self.settings.port
        public = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        public.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            public.bind((address, port))
            public.listen(2048)
        except OSError as error:
            raise PortError(
                f"cannot listen on {address} port {port}: {error.strerror}; stop what uses it, or choose another with "
                "SAGEMAKER_BIND_TO_PORT and SERVE_BIND_ADDRESS"
            ) from error
        return public

    def _triton_arguments(self, view: View, address: TritonAddress, prefix: str) -> list[str]:
        restricted = f"{','.join(RESTRICTED)}:{KEY_HEADER}={address.key}"
        return [
            f"--model-repository={view.folder}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in view.to_load()),
            "--exit-on-error=false",  # one broken model must not keep the others from answering
            f"--http-address={LOOPBACK}",
            f"--http-port={address.http_port}",
            f"--http-restricted-api={restricted}",
            f"--grpc-restricted-protocol={restricted}",
            f"--grpc-address={LOOPBACK}",
            f"--grpc-port={address.grpc_port}",
            "--allow-metrics=false",
            f"--log-info={self.settings.log_info[0]}",
            f"--exit-timeout-secs={TRITON_SECONDS - 1}",
            f"--backend-config=python,shm-region-prefix-name={prefix}",
        ]

    def _start_gunicorn(self, public: socket.socket, scratch: Path) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "gunicorn",
            f"serve.application:create_application('{scratch}')",
            "--bind", f"fd://{public.fileno()}",
            "--workers", str(self.settings.workers),
            "--worker-class", "serve.worker.Worker",
            "--graceful-timeout", str(GUNICORN_SECONDS),
            "--log-level", "warning",
            "--no-control-socket",
        ]  # fmt: skip
        # In a folder of ours: gunicorn takes modules and a gunicorn.conf.py from where it starts.
        environment = {**os.environ, "SERVE_MODEL_REPOSITORY": str(self.settings.model_repository.absolute())}
        return spawn(command, environment, public.fileno(), cwd=scratch)

    def _watch(
        self,
        triton: Child,
        gunicorn: Child,
        admin: TritonAdmin,
        rollout: Rollout,
        began: float,
    ) -> None:
        """Until a signal comes: restart what dies, say when the models are ready. Raises StartError."""
        watcher: threading.Thread | None = None
        ready = False
        while not self.stopping:
            if triton.check(may_restart=watcher is not None):
                rollout.pause()
                ready = False
                began = time.monotonic()
            gunicorn.check(may_restart=True)
            if not ready and admin.is_live():
                try:
                    self._report(admin, rollout, began)
                except Unavailable as error:
                    if watcher is None:
                        raise StartError("tritonserver came up and went away again") from error
                    continue
                ready = True
                if watcher is None:
                    watcher = threading.Thread(target=rollout.watch, args=(admin, self.ended), daemon=True)
                    watcher.start()
            time.sleep(TICK)

    def _report(self, admin: TritonAdmin, rollout: Rollout, began: float) -> None:
        """Say what is served.

        Raises StartError if no request could be answered, or not one to the default model; Unavailable without Triton.
        """
        failed = rollout.settle(admin)
        index = admin.index()
        ready = {state.name for state in index if state.ready}
        reasons = {state.name: state.reason for state in index}
        for name in rollout.plain:
            if name not in ready:
                log.error("%s is not served: %s", name, rollout.one_line(reasons.get(name) or NO_REASON))
                failed.append(name)
        default = self.settings.default_model_name
        wanted = [default] if default else list(rollout.served.choices)
        if all(name in failed for name in wanted):
            raise StartError(f"no request can be answered without {' or '.join(wanted)}")
        where = f"http://{self.settings.bind_address}:{self.settings.port}"
        names = ", ".join(sorted(ready))
        log.info("ready after %.1f s on %s: %s", time.monotonic() - began, where, names)


def free_ports(count: int, safe_range: tuple[int, int] | None) -> list[int]:
    """Ports nobody listens on, from a range if one is given. Raises PortError if it has too few."""
    candidates = [0] * count if safe_range is None else list(range(safe_range[0], safe_range[1] + 1))
    held: list[socket.socket] = []
    for port in candidates:
        probe = socket.socket()
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            probe.close()
            continue
        held.append(probe)
        if len(held) == count:
            break
    ports = [probe.getsockname()[1] for probe in held]
    for probe in held:
        probe.close()
    if len(ports) < count:
        low, high = safe_range or (1, 65535)
        raise PortError(f"SAGEMAKER_SAFE_PORT_RANGE {low}-{high} has fewer than {count} free ports; widen it")
    return ports
