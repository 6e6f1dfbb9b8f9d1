"""Starts tritonserver and gunicorn, watches both, and stops them in order.

Each of them is started again when it dies (child.py). After too many deaths, or if tritonserver never comes up,
everything stops with exit code 1 (D57 in docs/decisions.md). The public socket belongs to this process: so a port that
is taken is found before anything starts, and no connection is lost while gunicorn is started again.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from concurrent import futures
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from serve.errors import StartError, Unavailable
from serve.models.hosted import Hosted, hosted
from serve.models.repository import RepositoryError
from serve.models.served import SERVED_FILE, Served
from serve.settings import Settings
from serve.supervisor.child import Child
from serve.supervisor.ports import PortError, PublicPorts, end_connecting, public_ports, public_socket
from serve.supervisor.scratch import (
    FULL,
    MORE,
    check_room,
    clear_shared_memory,
    free_shared_memory,
    lock_of,
    own_shared_memory,
    scratch_folder,
)
from serve.supervisor.starts import GUNICORN_SECONDS, TRITON_SECONDS, TritonStarter, start_gunicorn
from serve.supervisor.triton_health import LOOK_SECONDS, TritonHealth, TritonStart
from serve.telemetry.cloudwatch import EmfWriter
from serve.telemetry.counts import TALLY_FOLDER, TallyFolder
from serve.telemetry.page_socket import PAGE_SOCKET, PageSocket
from serve.telemetry.prometheus import MetricsServer, Page, State
from serve.triton.address import AddressReader, address_reader
from serve.triton.admin import TritonAdmin
from serve.triton.arguments import region_size
from serve.triton.runtime import RuntimeNotFoundError, find_runtime

log = logging.getLogger("serve")

TICK = 0.1
# All signals that would end this process and leave the others to themselves.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Supervisor:
    """Serves a repository, or the models of a multi-model endpoint."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = False
        self.ended = threading.Event()
        self.children: list[Child] = []

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit code."""
        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:  # `nohup serve` has SIGHUP ignored
                signal.signal(number, self._on_signal)
        try:
            with ExitStack() as until_stopped:
                prefix, lock = own_shared_memory()
                if lock is not None:
                    until_stopped.callback(lock_of(prefix).unlink, missing_ok=True)
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
        """Serve until a signal comes; closing `until_stopped` stops all that was started.

        Raises StartError, RepositoryError, RuntimeNotFoundError or OSError.
        """
        began = time.monotonic()
        runtime = find_runtime(scratch)
        models = hosted(self.settings, scratch, runtime.backends)
        if self.settings.allow_grpc:
            log.warning(
                "SAGEMAKER_TRITON_ALLOW_GRPC opens Triton's own gRPC, where nothing is checked before: one "
                "request can end tritonserver for everybody (class_count of an output of text); let only callers reach "
                "it that you trust"
            )
        public = public_socket(self.settings)
        ports = public_ports(self.settings)
        (scratch / TALLY_FOLDER).mkdir()
        tallies = TallyFolder(scratch / TALLY_FOLDER)
        triton_address = address_reader(scratch)
        self._publish_counts(scratch, tallies, triton_address, ports, until_stopped)
        instances, free = models.check(runtime.backends), free_shared_memory()
        region = region_size(self.settings, len(models.to_load()), instances, free)
        check_room(instances, region, free)
        until_stopped.callback(self._stop)
        starter = TritonStarter(self.settings, runtime, models, ports, scratch, prefix, instances)
        triton = Child("tritonserver", starter)
        self.children.append(triton)
        gunicorn = Child("gunicorn", lambda: start_gunicorn(self.settings, public, scratch))
        self.children.insert(0, gunicorn)
        self._watch(triton, starter, gunicorn, TritonAdmin(triton_address), models, tallies, began)
        log.info("stopping: no new connections are accepted, requests in flight are finished")
        end_connecting(public)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _publish_counts(
        self, scratch: Path, tallies: TallyFolder, address: AddressReader, ports: PublicPorts, until_stopped: ExitStack
    ) -> None:
        """Hand the page of metrics to the workers, and start what else the settings ask for: a server of metrics on a
        port of its own, and the writer of CloudWatch's lines. Raises PortError.
        """
        page = Page(tallies, address, partial(self._state, scratch / SERVED_FILE))
        until_stopped.callback(PageSocket(scratch / PAGE_SOCKET, page).close)
        if ports.metrics is not None:
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

    def _state(self, path: Path) -> State:
        """What the page of metrics says beside the workers' counts. Raises OSError or ValueError."""
        served = Served.read(path) if path.exists() else Served()
        return State({child.name: child.restarts for child in self.children}, served.recommenders, len(served.failed))

    def _watch(
        self, triton: Child, starter: TritonStarter, gunicorn: Child, admin: TritonAdmin, models: Hosted,
        tallies: TallyFolder, began: float,
    ) -> None:  # fmt: skip
        """Until a signal comes: start again the process that died or hangs, and log when the models are ready.

        A first start that fails is not tried again, unless another process took a port, or a signal ended it for the
        first time, as a race in tritonserver may.

        Raises StartError.
        """
        watcher: threading.Thread | None = None
        health: TritonStart | TritonHealth = TritonStart(triton)
        hung = False
        while not self.stopping:
            # `lost_a_port` opens the ports for a moment, so it is asked only when tritonserver has ended.
            code = triton.process.poll()
            crashed = code is not None and code < 0 and not hung and not triton.restarts
            if code is not None and triton.check(watcher is not None or crashed or starter.lost_a_port()):
                models.pause()
                health, began = TritonStart(triton), time.monotonic()
            gunicorn.check(may_restart=True)
            self._collect_orphans()
            if isinstance(health, TritonStart) and admin.is_live(LOOK_SECONDS):
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
            if health.is_due():
                if (problem := health.problem()) is not None:
                    log.error("tritonserver %s; it is killed", problem)
                    hung = True
                    triton.kill()
                with suppress(OSError, ValueError):
                    tallies.read()  # adds up the files of dead workers and deletes them
            time.sleep(TICK)

    def _report(self, models: Hosted, admin: TritonAdmin) -> str:
        """The names of the models that are served. Models may be loaded for that; a signal ends the wait.

        Raises StartError or Unavailable.
        """
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
        return "nothing, because serve is stopping"

    def _collect_orphans(self) -> None:
        """Collect the exit codes of processes that became our children when their parents died.

        In a container `serve` is process 1, which becomes the parent of every process whose parent died, such as the
        models' processes of a killed tritonserver. Without this they would stay as zombies. The exit codes of our own
        children are left for `Child`.
        """
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in {child.process.pid for child in self.children}:
                    return
                os.waitpid(ended.si_pid, 0)

    def _stop(self) -> None:
        self.ended.set()
        for child in self.children:
            child.stop(GUNICORN_SECONDS + 1 if child.name == "gunicorn" else TRITON_SECONDS)
