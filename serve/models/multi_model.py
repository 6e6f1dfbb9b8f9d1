"""Loads and unloads models while others answer: what SageMaker's multi-model mode asks of a container.

What is loaded stands in one file (models/served.py) that every worker reads and, one at a time, changes. Whoever loads
or unloads a model writes a claim on its name first, so it is done once, whichever workers were asked; Triton does the
work outside of the lock, and nobody waits but who asked. What a process that died has left is taken away by the
supervisor (`watch`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serve.errors import BadRequest, OutOfMemory, ServeError, Unavailable, UnknownModel, show
from serve.models.archives import SEPARATOR, Archive, confined
from serve.models.repository import Recommender
from serve.models.served import SERVED_FILE, UNREADABLE, VIEW_FOLDER, Served, changing
from serve.models.view import View
from serve.processes import claim, end, heal, holds, instances
from serve.triton.admin import LoadFailed, ModelState, TritonAdmin
from serve.triton.out_of_memory import is_out_of_memory, oom_kills

log = logging.getLogger("serve")

# SageMaker waits 360 s for an unload.
UNLOAD_SECONDS = 350.0
# After a failed load, before it is answered; what takes longer is left to the supervisor.
CLEAN_UP_SECONDS = 10.0
# How often to look whether Triton is done: an unload takes from a few milliseconds to seconds.
FIRST_LOOK, LAST_LOOK = 0.01, 0.2
WATCH_SECONDS = 1.0
# How long the supervisor waits for one model to go before it sees to the next; it comes back to it.
TIDY_SECONDS = 3.0
# For a process that was killed before it told Triton that it lives, Triton waits for ever.
YOUNG_SECONDS = 10.0
# After the end of its last process Triton unloads a model within milliseconds, or never.
WAKE_SECONDS = 2.0


class Conflict(ServeError):
    """The model is loaded, or being loaded, already."""

    status = 409
    code = "already_loaded"


class MultiModel:
    """The models below `root` that were asked for; `scratch` is the folder supervisor and workers share."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        self.file = scratch / SERVED_FILE
        self.view = View(root, scratch / VIEW_FOLDER)

    def load(self, admin: TritonAdmin, name: str, url: object, target: str = "") -> None:
        """Load the archive in folder `url` as `name`, which no other model has; `target` is the Target-Model header.

        Raises BadRequest, Conflict, OutOfMemory or Unavailable.
        """
        folder = confined(url, self.root)
        starts = self._claim(name)
        began, patience = time.monotonic(), CLEAN_UP_SECONDS
        try:
            self._clear(admin, name, UNLOAD_SECONDS)
            archive = Archive.read(folder, self.root, str(url))
            sizes = self._load(admin, archive, name)
            processes = instances(self.view.folder)
            with changing(self.file) as served:
                if served.starts != starts:
                    raise Unavailable("the inference server went away while the model was loaded; try again")
                served.publish(name, archive.url, target, archive.names(name), archive.release, sizes)
                served.processes |= {part: processes.get(part, []) for part in served.parts[name]}
        except BaseException as error:
            if isinstance(error, Unavailable) or isinstance(error.__cause__, Unavailable):
                patience = 0  # Triton is busy or being started again
            log.error("%s is not loaded: %s", name, " ".join(str(error).split())[:1000])
            self._abandon(admin, name, patience)
            raise
        log.info("%s: %s is loaded from %s after %.1f s", name, archive.models[0], url, time.monotonic() - began)

    def unload(self, admin: TritonAdmin, name: str, target: str = "") -> None:
        """Unload a model and return when its memory is free; calls it has in Triton are answered first.

        Raises UnknownModel, BadRequest, or Unavailable if that takes too long.
        """
        with changing(self.file) as served:
            if name not in served.urls:
                raise unknown(name)
            served.check_target(name, target)
            served.withdraw(name)
            served.unloading[name] = claim()
        try:
            self._clear(admin, name, UNLOAD_SECONDS)
        finally:
            with changing(self.file) as served:
                served.unloading.pop(name, None)
        log.info("%s is unloaded", name)

    def lay_out(self) -> None:
        """Begin with no model at all."""
        self.view.folder.mkdir(exist_ok=True)
        Served().write(self.file)

    def to_load(self) -> list[str]:
        """What Triton shall load when it is started (again)."""
        return [part for parts in Served.read(self.file).parts.values() for part in parts]

    def settle(self, admin: TritonAdmin) -> list[str]:
        """After a start of Triton: models that are not ready are loaded no longer, so that SageMaker can load them
        again; -> their names. Raises Unavailable."""
        with changing(self.file) as served:
            index = admin.index()
            ready = {state.name for state in index if state.ready}
            lost = [name for name, parts in served.parts.items() if not ready.issuperset(parts)]
            for name in lost:
                log.error("%s is no longer loaded: %s", name, _reason(name, index))
                served.withdraw(name)
            running = instances(self.view.folder)
            served.processes = {part: running.get(part, []) for parts in served.parts.values() for part in parts}
            served.ready = True
            served.starts += 1
        return lost

    def pause(self) -> None:
        """Triton has gone: nothing is ready until the next `settle`."""
        with changing(self.file) as served:
            served.ready = False

    def watch(self, admin: TritonAdmin, stopped: threading.Event) -> None:
        """Take away what loads and unloads that were cut off have left, until `stopped`; in a thread of its own."""
        no_room: dict[str, int] = {}
        said = ""
        while not stopped.wait(WATCH_SECONDS):
            try:
                heal(admin, self.file, self.view.folder, no_room)
                self.tidy(admin, stopped.is_set)
                said = ""
            except (Unavailable, OSError) as error:
                if not stopped.is_set() and str(error) != said:
                    said = str(error)
                    log.error("cannot take away what was left of a model: %s", said)
            except Exception:  # a bug of ours: the next time it may be something else
                log.exception("taking away what was left of models failed")

    def tidy(self, admin: TritonAdmin, stopped: Callable[[], bool] = lambda: False) -> None:
        """Take away what belongs to no model and nobody is at. Raises Unavailable or OSError."""
        with changing(self.file) as served:
            if not served.ready:
                return
            for claims in (served.loading, served.unloading):
                for name in [name for name, claimed in claims.items() if not holds(claimed)]:
                    del claims[name]
            left = {path.name.partition(SEPARATOR)[0] for path in self.view.folder.iterdir()}
        failed = None
        for name in sorted(left):
            with changing(self.file) as served:
                if name in served.urls or name in served.loading or name in served.unloading:
                    continue
                served.unloading[name] = claim()
            try:
                self._clear(admin, name, TIDY_SECONDS, stopped)
                log.info("%s: what was left of it is taken away", name)
            except Unavailable as error:  # which is no reason to let the others lie
                failed = error
            finally:
                with changing(self.file) as served:
                    served.unloading.pop(name, None)
        if failed:
            raise failed

    def _claim(self, name: str) -> int:
        """Begin to load `name`, after the end of an unload of it; -> the number of the Triton that runs.

        Raises Conflict, or Unavailable.
        """
        deadline, pause = time.monotonic() + UNLOAD_SECONDS, FIRST_LOOK
        while True:
            with changing(self.file) as served:
                if not served.ready:
                    raise Unavailable("the inference server is not ready; try again shortly")
                if name in served.urls:
                    raise Conflict(f"{name} is loaded already")
                if holds(served.loading.get(name)):
                    raise Conflict(f"{name} is being loaded already")
                if not holds(served.unloading.get(name)):
                    served.unloading.pop(name, None)
                    served.loading[name] = claim()
                    return served.starts
            if time.monotonic() > deadline:
                raise Unavailable(f"{name} is still being unloaded; try again later")
            time.sleep(pause)
            pause = min(2 * pause, LAST_LOOK)

    def _load(self, admin: TritonAdmin, archive: Archive, name: str) -> dict[str, int]:
        """Have Triton load an archive; -> of a recommender's parts the rows a request may have.

        Raises BadRequest, OutOfMemory or Unavailable.
        """
        kills = oom_kills()
        names = archive.names(name)
        try:
            sizes = archive.lay_out(self.view, name)
            # What an ensemble needs Triton loads with it.
            wanted = names if archive.release else names[:1]
            with ThreadPoolExecutor(len(wanted)) as pool:
                list(pool.map(admin.load, wanted))
            if archive.release:
                Recommender.open(self.view.folder, name, archive.release.version, sizes, names)
            if oom_kills() > kills:  # another model's, which was larger
                raise LoadFailed("not one of its own")
        except (LoadFailed, Unavailable, *UNREADABLE) as error:
            text = archive.as_seen_outside(str(error).rstrip("\n;"), self.view, name)
            if oom_kills() > kills:
                raise OutOfMemory(f"{name} needs more memory than there is, a process was killed: {text}") from error
            if is_out_of_memory(f"{text} {error.__cause__}", kills):
                raise OutOfMemory(f"{name} needs more memory than there is: {text}") from error
            if isinstance(error, Unavailable):
                raise
            raise BadRequest(f"{name} cannot be loaded: {text}") from error
        return sizes

    def _abandon(self, admin: TritonAdmin, name: str, seconds: float) -> None:
        """Take a failed load's model away, as far as that is possible now, and give up the claim."""
        try:
            if seconds:
                self._clear(admin, name, seconds)
        except (Unavailable, OSError):
            pass  # the supervisor will
        finally:
            with changing(self.file) as served:
                served.loading.pop(name, None)

    def _clear(
        self, admin: TritonAdmin, name: str, seconds: float, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Have Triton unload whatever there is of a model, wait until it is gone, and show it no longer.

        A Triton that is started again meanwhile may load it again, and is told again. Raises Unavailable after
        `seconds`. A load that is under way is one that nobody waits for any more. What was asked of a model whose
        process has died, Triton 2.51 never lets go of: it is gone when there is no process.
        """
        there = {path.name for path in self.view.folder.iterdir() if path.name.partition(SEPARATOR)[0] == name}
        served = Served.read(self.file)
        processes = [process for part in there for process in served.processes.get(part, ())]
        last_sign = time.monotonic()
        deadline, pause = last_sign + seconds, FIRST_LOOK
        held = there
        while held:
            try:
                states = [state for state in admin.index() if state.name in there and not state.gone]
                for part in sorted({state.name for state in states if state.ready}):  # what is asked comes first
                    admin.unload(part)
                for part in {state.name for state in states if state.state == "LOADING"}:  # for nobody
                    for process in instances(self.view.folder).get(part, ()):
                        end(process, YOUNG_SECONDS)
                held = {state.name for state in states}
                waits = {state.state for state in states} == {"UNLOADING"} and not any(map(holds, processes))
                if not waits or there & instances(self.view.folder, completing=True).keys():
                    last_sign = time.monotonic()
            except (Unavailable, LoadFailed) as error:
                log.debug("%s: %s", name, error)
            if processes and time.monotonic() > last_sign + WAKE_SECONDS:
                held = set()
            if held and (time.monotonic() > deadline or stopped()):
                raise Unavailable(f"{name} is still being unloaded; try again later")
            if held:
                time.sleep(pause)
                pause = min(2 * pause, LAST_LOOK)
        for part in there:
            self.view.remove(part)
        with changing(self.file) as served:
            for part in there:
                served.processes.pop(part, None)


def unknown(name: str) -> UnknownModel:
    """Nothing of that name is loaded."""
    return UnknownModel(f"{show(name)} is not loaded; POST /models loads it")


def _reason(name: str, index: list[ModelState]) -> str:
    for state in index:
        if state.name.partition(SEPARATOR)[0] == name and state.reason:
            return state.reason
    return "Triton was started again without it"
