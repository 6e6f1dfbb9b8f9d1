"""Starts tritonserver and gunicorn, watches both, and stops them in order.

Either one that dies is started again (child.py); when that has been too often, or when it never came up at all,
everything stops with exit code 1 (why: docs/decisions.md). The public socket belongs to this process, so a port
that is taken is known before anything starts, and a restarting gunicorn loses no connection.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

from serve.errors import Unavailable
from serve.models.hosted import Hosted, hosted
from serve.models.repository import RepositoryError
from serve.settings import Settings
from serve.supervisor.child import Child, StartError, spawn
from serve.supervisor.ports import LOOPBACK, PortError, PublicPorts, public_ports, triton_ports
from serve.supervisor.scratch import FULL, MORE, check_room, clear_shared_memory, free_shared_memory, scratch_folder
from serve.telemetry.cloudwatch import EmfWriter
from serve.telemetry.counts import TALLY_FOLDER, TallyFolder
from serve.telemetry.prometheus import MetricsServer, Page
from serve.triton.address import ADDRESS_FILE, TritonAddress
from serve.triton.admin import TritonAdmin
from serve.triton.arguments import grpc_host, region_size, triton_arguments
from serve.triton.runtime import RuntimeNotFoundError, TritonRuntime, find_runtime

log = logging.getLogger("serve")

# SIGTERM to the end within 25 s (SageMaker kills after 30): gunicorn finishes requests, then Triton goes.
GUNICORN_SECONDS, TRITON_SECONDS = 17, 5
TICK = 0.1
INPUT_SIZE = "--http-max-input-size"
# How often to look whether Triton is well, and after how long without an answer it hangs.
LOOK_SECONDS, SILENT_SECONDS = 1.0, 30.0
# What gunicorn would take from the environment, which is that of the endpoint.
GUNICORNS_OWN = ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY")


class Supervisor:
    """`run()` serves until SIGTERM or SIGINT and returns the exit code."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = False
        self.ended = threading.Event()
        self.children: list[Child] = []

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)
        prefix = f"serve_{secrets.token_hex(4)}_"
        try:
            with ExitStack() as until_stopped:
                scratch = scratch_folder()
                until_stopped.callback(shutil.rmtree, scratch, ignore_errors=True)
                until_stopped.callback(clear_shared_memory, prefix)
                self._serve(scratch, prefix, until_stopped)
            return 0
        except (StartError, RepositoryError, RuntimeNotFoundError) as error:
            log.error("%s", error)
            return getattr(error, "exit_code", 1)
        except OSError as error:
            if error.errno not in FULL:
                raise
            log.error("%s is full; %s", tempfile.gettempdir(), MORE)
            return 1
        finally:
            self.ended.set()
            if self.children:
                log.info("stopped")

    def _serve(self, scratch: Path, prefix: str, until_stopped: ExitStack) -> None:
        """Until a signal comes; what was started is stopped by `until_stopped`. Raises StartError and the like."""
        began = time.monotonic()
        models = hosted(self.settings, scratch)
        public = self._bind()
        ports = public_ports(self.settings)
        (scratch / TALLY_FOLDER).mkdir()
        tallies = TallyFolder(scratch / TALLY_FOLDER)
        self._show_figures(tallies, scratch / ADDRESS_FILE, ports, until_stopped)
        runtime = find_runtime(scratch)
        instances, free = models.check(runtime.backends), free_shared_memory()
        region = region_size(self.settings, len(models.to_load()), instances, free)
        check_room(instances, region, free)
        until_stopped.callback(self._stop)
        triton = Child("tritonserver", lambda: self._start_triton(runtime, models, ports, scratch, prefix, instances))
        self.children.append(triton)
        gunicorn = Child("gunicorn", lambda: self._start_gunicorn(public, scratch))
        self.children.insert(0, gunicorn)
        self._watch(triton, gunicorn, TritonAdmin(scratch / ADDRESS_FILE), models, tallies, began)
        log.info("stopping: no new connections, requests in flight are finished")
        public.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

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

    def _show_figures(self, tallies: TallyFolder, address: Path, ports: PublicPorts, until_stopped: ExitStack) -> None:
        """Metrics on their port, and lines for CloudWatch, where these are asked for. Raises PortError."""
        if ports.metrics is not None:
            page = Page(tallies, lambda: TritonAddress.read(address), self._restarts)
            try:
                server = MetricsServer(self.settings.bind_address, ports.metrics, page)
            except OSError as error:
                raise PortError(f"cannot listen on port {ports.metrics} for metrics: {error.strerror}") from error
            server.start()
            until_stopped.callback(server.close)
        if self.settings.emf_seconds:
            writer = EmfWriter(tallies, self.settings.emf_seconds)
            writer.start()
            until_stopped.callback(writer.stop)

    def _restarts(self) -> dict[str, int]:
        return {child.name: child.restarts for child in self.children}

    def _start_triton(
        self, runtime: TritonRuntime, models: Hosted, ports: PublicPorts, scratch: Path, prefix: str, instances: int
    ) -> subprocess.Popen[bytes]:
        clear_shared_memory(prefix)
        # Ports are looked for at every start: what was free an hour ago may be taken.
        own = triton_ports(self.settings, ports)
        address = TritonAddress(LOOPBACK, *own, secrets.token_hex(16), grpc_host(self.settings))
        address.write(scratch / ADDRESS_FILE)
        arguments = triton_arguments(
            self.settings,
            models.folder,
            models.to_load(),
            address,
            prefix,
            shm_free=free_shared_memory(),
            gpus=len([*Path("/dev").glob("nvidia[0-9]*")]),
            exit_seconds=TRITON_SECONDS - 1,
            instances=instances,
            complete=models.only_recommenders,
        )
        if runtime.knows(INPUT_SIZE):  # newer releases have a limit of their own; ours is the one that counts
            arguments.insert(0, f"{INPUT_SIZE}={max(2**26, self.settings.max_body_bytes)}")
        return spawn([str(runtime.program), *runtime.arguments, *arguments], runtime.environment)

    def _start_gunicorn(self, public: socket.socket, scratch: Path) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "gunicorn",
            f"serve.worker.application:create_application('{scratch}')",
            "--bind", f"fd://{public.fileno()}",
            "--workers", str(self.settings.workers),
            "--worker-class", "serve.worker.gunicorn_worker.Worker",
            "--graceful-timeout", str(GUNICORN_SECONDS),
            "--log-level", "warning",
            "--no-control-socket",
        ]  # fmt: skip
        # In a folder of ours: gunicorn takes modules and a gunicorn.conf.py from where it starts.
        paths = {
            "SERVE_MODEL_REPOSITORY": str(self.settings.model_repository.absolute()),
            "SERVE_MULTI_MODEL_ROOT": str(self.settings.multi_model_root.absolute()),
        }
        environment = {name: value for name, value in os.environ.items() if name not in GUNICORNS_OWN}
        return spawn(command, environment | paths, public.fileno(), cwd=scratch)

    def _watch(
        self, triton: Child, gunicorn: Child, admin: TritonAdmin, models: Hosted, tallies: TallyFolder, began: float
    ) -> None:
        """Until a signal comes: restart what dies or hangs, say when the models are ready. Raises StartError."""
        watcher: threading.Thread | None = None
        health: TritonHealth | None = None
        while not self.stopping:
            if triton.check(may_restart=watcher is not None):
                models.pause()
                health, began = None, time.monotonic()
            gunicorn.check(may_restart=True)
            self._bury()
            if health is None and admin.is_live(LOOK_SECONDS):
                try:
                    names = self._report(models, admin)
                except Unavailable as error:
                    if watcher is None:
                        raise StartError("tritonserver came up and went away again") from error
                    continue
                where = f"http://{self.settings.bind_address}:{self.settings.port}"
                log.info("ready after %.1f s on %s: %s", time.monotonic() - began, where, names)
                health = TritonHealth(triton, admin, not self.settings.multi_model)
                if watcher is None:
                    watcher = threading.Thread(target=models.watch, args=(admin, self.ended), daemon=True)
                    watcher.start()
            if health is not None and health.is_due():
                if (why := health.look()) is not None:
                    log.error("tritonserver %s and is killed", why)
                    triton.kill()
                with suppress(OSError, ValueError):
                    tallies.read()  # what dead workers have left is added up and taken away
            time.sleep(TICK)

    def _report(self, models: Hosted, admin: TritonAdmin) -> str:
        """What is served; it may have to load models, and a signal does not wait for that. Raises StartError and the
        like."""
        done: Future[str] = Future()

        def report() -> None:
            try:
                done.set_result(models.report(admin))
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=report, daemon=True).start()
        while not self.stopping:
            with suppress(TimeoutError, futures.TimeoutError):
                return done.result(TICK)
        return "nothing, for it is stopping"

    def _bury(self) -> None:
        """As process 1 of a container `serve` is given what its children leave behind, such as a killed tritonserver's
        models, and must wait for it when it has ended; how a child of its own ended, `Child` wants to know."""
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in {child.process.pid for child in self.children}:
                    return
                os.waitpid(ended.si_pid, 0)

    def _stop(self) -> None:
        self.ended.set()
        for child in self.children:
            child.stop(GUNICORN_SECONDS + 1 if child.name == "gunicorn" else TRITON_SECONDS)


class TritonHealth:
    """Whether a tritonserver that is there is still of use."""

    def __init__(self, triton: Child, admin: TritonAdmin, heal_backends: bool) -> None:
        """`heal_backends`: whether a model's process that has died is a reason to start Triton again. With many models
        that come and go it is not: the platform unloads and loads the one, and the others go on."""
        self.triton, self.admin, self.heal_backends = triton, admin, heal_backends
        self.looked = self.answered = time.monotonic()
        self.dead: set[int] = set()

    def is_due(self) -> bool:
        return time.monotonic() > self.looked + LOOK_SECONDS

    def look(self) -> str | None:
        """What is wrong with it, if anything is."""
        if self.admin.is_live(LOOK_SECONDS):
            self.answered = time.monotonic()
        self.looked = time.monotonic()
        if self.looked - self.answered > SILENT_SECONDS:
            return f"has not answered for {SILENT_SECONDS:.0f} s"
        # Triton does not look after a process of its Python backend that dies; one it unloads is dead for a moment.
        before, self.dead = self.dead, self.triton.dead_children() if self.heal_backends else set()
        return "has lost a model's process" if before & self.dead else None
