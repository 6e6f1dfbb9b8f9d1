"""Loads and unloads models while others answer: what SageMaker's multi-model mode asks of a container.

One file (models/served.py) lists the loaded models. Every worker reads it, and only one worker at a time changes it.
Before a worker loads or unloads a model it writes a claim (serve/processes.py) on the model's name into that file, so
only one worker does it, whichever workers were asked. Triton works while the file is not locked, so only the caller who
asked for a model waits for it. If a worker dies meanwhile, the supervisor removes the unfinished model
(models/multi_model_care.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serve.errors import BadRequest, Conflict, OutOfMemory, Unavailable, UnknownModel, show
from serve.models.archives import SEPARATOR, Archive, confined
from serve.models.served import SERVED_FILE, UNREADABLE, VIEW_FOLDER, Served, changing
from serve.models.view import View
from serve.processes import claim, holds
from serve.recommend.recommender import Recommender
from serve.triton.admin import LoadFailed, TritonAdmin
from serve.triton.out_of_memory import is_out_of_memory, oom_kills
from serve.triton.python_processes import end, instances

log = logging.getLogger("serve")

# SageMaker waits 360 s for an unload.
UNLOAD_SECONDS = 350.0
# If a load fails, its caller waits at most this long until the model is removed; the supervisor finishes the removal.
CLEAN_UP_SECONDS = 10.0
# Pauses between looks whether Triton has finished, doubled each time: an unload takes milliseconds to seconds.
FIRST_LOOK, LAST_LOOK = 0.01, 0.2
# Triton waits for ever for a process that is killed before it reports that it runs, so no younger process is killed.
YOUNG_SECONDS = 10.0
# After the end of its last process Triton unloads a model within milliseconds, or never.
WAKE_SECONDS = 2.0


class MultiModel:
    """The models below `root` that were loaded; `scratch` is the folder that supervisor and workers share."""

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
            self.clear(admin, name, UNLOAD_SECONDS)
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
        """Unload a model and return when its memory is free; Triton answers the requests it has first.

        Raises UnknownModel, BadRequest, or Unavailable if that takes too long.
        """
        with changing(self.file) as served:
            if name not in served.urls:
                raise unknown(name)
            served.check_target(name, target)
            served.withdraw(name)
            served.unloading[name] = claim()
        try:
            self.clear(admin, name, UNLOAD_SECONDS)
        finally:
            with changing(self.file) as served:
                served.unloading.pop(name, None)
        log.info("%s is unloaded", name)

    def _claim(self, name: str) -> int:
        """Claim `name` for a load, after any unload of it has ended; -> how many times Triton has been started.

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
        """Have Triton load an archive; -> of a recommender's parts the most rows that a request may have.

        Raises BadRequest, OutOfMemory or Unavailable.
        """
        kills = oom_kills()
        names = archive.names(name)
        try:
            sizes = archive.lay_out(self.view, name)
            # Triton loads the models that an ensemble needs with the ensemble.
            wanted = names if archive.release else names[:1]
            with ThreadPoolExecutor(len(wanted)) as pool:
                list(pool.map(admin.load, wanted))
            if archive.release:
                Recommender.open(self.view.folder, name, archive.release.version, sizes, names)
            if oom_kills() > kills:  # the kernel killed a larger process than this model's
                raise LoadFailed("it was a process of another model")
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
        """After a load that failed: remove the model, unless that takes longer than `seconds`, and the claim."""
        try:
            if seconds:
                self.clear(admin, name, seconds)
        except (Unavailable, OSError):
            pass  # the supervisor removes it later
        finally:
            with changing(self.file) as served:
                served.loading.pop(name, None)

    def clear(self, admin: TritonAdmin, name: str, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Have Triton unload all parts of a model, wait until they are gone, and remove them from the view.

        Raises Unavailable after `seconds`. A Triton that is started again meanwhile may load the model again, so the
        unload is repeated until the model is gone. If Triton is still LOADING the model, its caller has given up, so
        the model's process is killed. Triton 2.51 keeps a model UNLOADING for ever when its process died with requests
        pending; then "no process" means unloaded.
        """
        there = {path.name for path in self.view.folder.iterdir() if path.name.partition(SEPARATOR)[0] == name}
        served = Served.read(self.file)
        processes = [process for part in there for process in served.processes.get(part, ())]
        last_sign = time.monotonic()
        deadline, pause = last_sign + seconds, FIRST_LOOK
        left = there
        while left:
            try:
                states = [state for state in admin.index() if state.name in there and not state.gone]
                for part in sorted({state.name for state in states if state.ready}):  # the ensemble before its steps
                    admin.unload(part)
                for part in {state.name for state in states if state.state == "LOADING"}:
                    for process in instances(self.view.folder).get(part, ()):
                        end(process, YOUNG_SECONDS)
                left = {state.name for state in states}
                waits = {state.state for state in states} == {"UNLOADING"} and not any(map(holds, processes))
                if not waits or there & instances(self.view.folder, completing=True).keys():
                    last_sign = time.monotonic()
            except (Unavailable, LoadFailed) as error:
                log.debug("%s: %s", name, error)
            if processes and time.monotonic() > last_sign + WAKE_SECONDS:
                left = set()
            if left and (time.monotonic() > deadline or stopped()):
                raise Unavailable(f"{name} is still being unloaded; try again later")
            if left:
                time.sleep(pause)
                pause = min(2 * pause, LAST_LOOK)
        for part in there:
            self.view.remove(part)
        with changing(self.file) as served:
            for part in there:
                served.processes.pop(part, None)


def unknown(name: str) -> UnknownModel:
    """The error for a name that no loaded model has."""
    return UnknownModel(f"{show(name)} is not loaded; POST /models loads it")
