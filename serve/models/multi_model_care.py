"""The supervisor's part of a multi-model endpoint: it starts with no model, loads models again whose processes have
died, and removes what is left of loads and unloads that were cut off."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from serve.errors import Unavailable
from serve.models.archives import SEPARATOR
from serve.models.multi_model import MultiModel
from serve.models.served import Served, changing
from serve.processes import claim, holds
from serve.triton.admin import LoadFailed, ModelState, TritonAdmin
from serve.triton.out_of_memory import oom_kills
from serve.triton.python_processes import end, instances

log = logging.getLogger("serve")

WATCH_SECONDS = 1.0
# The supervisor waits this long until a model is gone; then it turns to the next model, and comes back later.
TIDY_SECONDS = 3.0


class MultiModelCare:
    """The models of a multi-model endpoint as the supervisor sees them; see `Hosted` for the methods it calls."""

    def __init__(self, root: Path, scratch: Path) -> None:
        """Begin with no model; `root` is the folder of archives, `scratch` the one shared with the workers."""
        self.models = MultiModel(root, scratch)
        self.file, self.folder = self.models.file, self.models.view.folder
        self.folder.mkdir(exist_ok=True)
        Served().write(self.file)
        # Models that could not be loaded again, and how many models were loaded then.
        self._no_room: dict[str, int] = {}

    def to_load(self) -> list[str]:
        """The models that Triton loads when it is started again: all parts of those that were loaded before."""
        return [part for parts in Served.read(self.file).parts.values() for part in parts]

    def check(self, backends: Path) -> int:
        """Nothing is loaded yet, so nothing can be wrong; -> 0 processes of the Python backend."""
        return 0

    def pause(self) -> None:
        """Triton has ended: no model is ready until the next `settle`."""
        with changing(self.file) as served:
            served.ready = False

    def report(self, admin: TritonAdmin) -> str:
        """After a start of Triton: publish which models are loaded; -> their names for the log. Raises Unavailable."""
        self.settle(admin)
        return ", ".join(sorted(self.to_load())) or "no model yet; POST /models loads one"

    def settle(self, admin: TritonAdmin) -> list[str]:
        """After a start of Triton: withdraw models that are not ready, so that SageMaker can load them again; -> their
        names. Raises Unavailable."""
        with changing(self.file) as served:
            index = admin.index()
            ready = {state.name for state in index if state.ready}
            lost = [name for name, parts in served.parts.items() if not ready.issuperset(parts)]
            for name in lost:
                log.error("%s is no longer loaded: %s", name, _reason(name, index))
                served.withdraw(name)
            running = instances(self.folder)
            served.processes = {part: running.get(part, []) for parts in served.parts.values() for part in parts}
            served.ready = True
            served.starts += 1
        return lost

    def watch(self, admin: TritonAdmin, stopped: threading.Event) -> None:
        """Heal and tidy every second until `stopped`; runs in a thread of its own."""
        logged = ""
        while not stopped.wait(WATCH_SECONDS):
            try:
                self.heal(admin)
                self.tidy(admin, stopped.is_set)
                logged = ""
            except (Unavailable, OSError) as error:
                if not stopped.is_set() and str(error) != logged:
                    logged = str(error)
                    log.error("cannot remove the rest of a model: %s", logged)
            except Exception:  # a bug in this file must not end the thread: the next second's models may be others
                log.exception("caring for the models failed")

    def tidy(self, admin: TritonAdmin, stopped: Callable[[], bool] = lambda: False) -> None:
        """Remove every model from Triton and the view that is not loaded and that no process is loading or unloading.

        Raises Unavailable or OSError.
        """
        with changing(self.file) as served:
            if not served.ready:
                return
            for claims in (served.loading, served.unloading):
                for name in [name for name, claimed in claims.items() if not holds(claimed)]:
                    del claims[name]
            shown = {path.name.partition(SEPARATOR)[0] for path in self.folder.iterdir()}
        failed = None
        for name in sorted(shown):
            with changing(self.file) as served:
                if name in served.urls or name in served.loading or name in served.unloading:
                    continue
                served.unloading[name] = claim()
            try:
                self.models.clear(admin, name, TIDY_SECONDS, stopped)
                log.info("%s: the rest of it is removed", name)
            except Unavailable as error:  # the other models are still tidied
                failed = error
            finally:
                with changing(self.file) as served:
                    served.unloading.pop(name, None)
        if failed:
            raise failed

    def heal(self, admin: TritonAdmin) -> None:
        """Load models again whose processes have died: Triton 2.51 answers requests to them with errors for ever.

        A model that cannot be loaded again is tried when fewer models are loaded; until then its errors make SageMaker
        unload some. Raises Unavailable.
        """
        served = Served.read(self.file)
        if not served.ready or (served.loading and oom_kills()):  # the model being loaded may have taken the memory
            return
        for part in [part for parts in served.parts.values() for part in parts]:
            before, kills, failed = served.processes.get(part, []), oom_kills(), ""
            if all(map(holds, before)) or len(served.parts) >= self._no_room.get(part, sys.maxsize):
                continue
            log.error("a process of %s has died; it is loaded again", part)
            try:
                admin.load(part)
            except LoadFailed as error:
                failed = " ".join(str(error).split())[:1000]
            after = [process for process in instances(self.folder).get(part, ()) if process not in before]
            if oom_kills() > kills:
                failed = "there is not enough memory"
                for process in after:
                    end(process, 0)
            if failed:
                log.error("%s cannot be loaded again before another model is unloaded: %s", part, failed)
                self._no_room[part] = len(served.parts)
                return  # if the kernel killed another model's process for it, that model is next
            self._no_room.pop(part, None)
            with changing(self.file) as now:
                if now.processes.get(part) == before:
                    now.processes[part] = after


def _reason(name: str, index: list[ModelState]) -> str:
    """Why a model is not ready, as far as Triton says."""
    for state in index:
        if state.name.partition(SEPARATOR)[0] == name and state.reason:
            return state.reason
    return "Triton was started again without it"
