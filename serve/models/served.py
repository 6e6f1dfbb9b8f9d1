"""What is served right now: one small file that every worker reads.

A worker looks at the file's time for each request and reads the file when the time has changed. So all workers use a
new version from the same moment on, and no worker keeps a table of its own. The supervisor writes the file; in
multi-model mode the workers write it too, one at a time (`changing`).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from serve.errors import BadRequest, show
from serve.files import replace
from serve.models.repository import Release, beside_weights, file_stamp
from serve.recommend.recommender import Recommender

# In the folder that the supervisor and its workers share.
SERVED_FILE, VIEW_FOLDER = "served.json", "models"
# The errors of opening a recommender whose files are not whole.
UNREADABLE = (OSError, ValueError, KeyError, TypeError)


@dataclass
class Served:
    """The models that Triton serves, and each recommender's live version, None where it has none.

    By recommender, `stamps` has the stamp of the live version's files. By part of a recommender, `versions` has the
    live version and `max_batch_size` the most rows of a request. `failed` has the reason of each version
    `<name>/<version>` that is not served. `default` is the model of requests that name none; without a default each
    request must name one. `parts` has, by recommender, Triton's names of its parts in the live version.

    In multi-model mode, by the name SageMaker gave: `urls` has the folder of a loaded model, `targets` the Target-Model
    header it was loaded with ("" without a header), `parts` also Triton's names of any other model and of the models it
    needs; `loading` and `unloading` have the claim of the process that does that (serve/processes.py). By part,
    `processes` has the claims of the processes that run it. `starts` counts the starts of Triton.
    """

    ready: bool = False
    models: tuple[str, ...] = ()
    recommenders: dict[str, int | None] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    max_batch_size: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    default: str | None = None
    urls: dict[str, str] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    loading: dict[str, str] = field(default_factory=dict)
    unloading: dict[str, str] = field(default_factory=dict)
    processes: dict[str, list[str]] = field(default_factory=dict)
    starts: int = 0

    @classmethod
    def read(cls, path: Path) -> Served:
        """Raises OSError or ValueError."""
        read = json.loads(path.read_text())
        return cls(**{**read, "models": tuple(read["models"])})

    def write(self, path: Path) -> None:
        replace(path, json.dumps(asdict(self)))

    @property
    def choices(self) -> tuple[str, ...]:
        """The names that a request can use: the recommenders, or the models where there are no recommenders."""
        return tuple(self.recommenders) or self.models

    def check_target(self, name: str, asked: str | None) -> None:
        """Raises BadRequest if a Target-Model header names another model than the one `name` was loaded with."""
        target = self.targets.get(name)
        if asked and target and asked != target:
            raise BadRequest(
                f"X-Amzn-SageMaker-Target-Model is {show(asked)}, which does not match: {name} is {target}"
            )

    def publish(
        self, name: str, url: str, target: str, parts: Sequence[str], release: Release | None, sizes: dict[str, int]
    ) -> None:
        """Make a model that was loaded in multi-model mode known; `sizes` are the most rows of a request, by part of
        a recommender."""
        self.loading.pop(name, None)
        self.urls[name], self.targets[name], self.parts[name] = url, target, list(parts)
        self.models = tuple(self.urls)
        if release:
            self.recommenders[name], self.stamps[name] = release.version, release.stamp
            self.versions |= dict.fromkeys(parts, release.version)
            self.max_batch_size |= sizes

    def withdraw(self, name: str) -> None:
        """Forget a model that was loaded in multi-model mode, but not its processes: they have yet to end."""
        for part in self.parts.pop(name, []):
            self.versions.pop(part, None)
            self.max_batch_size.pop(part, None)
        by_name: list[dict[str, str]] = [self.urls, self.targets, self.stamps]
        for table in by_name:
            table.pop(name, None)
        self.recommenders.pop(name, None)
        self.models = tuple(self.urls)


@contextmanager
def changing(path: Path) -> Iterator[Served]:
    """Read what is served, to be changed in place; it is written at the end, unless an error was raised or nothing was
    changed. Only one thread of one process at a time is inside."""
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        served = Served.read(path)
        before = asdict(served)
        yield served
        if asdict(served) != before:
            served.write(path)


class ServedFile:
    """The file as one worker reads it, and the recommenders that this worker has opened.

    `view` is the folder that Triton sees.
    """

    def __init__(self, path: Path, view: Path) -> None:
        self.path, self.view = path, view
        self._file = str(path)
        # One tuple, replaced in one step, because several threads may read at once.
        self._current: tuple[tuple[int, int], Served] = ((0, 0), Served())
        self._looked = False
        self._open: dict[str, tuple[str, Recommender]] = {}  # by name, with the stamp of its files

    def current(self) -> Served:
        """What is served; the caller must not change it."""
        status = os.stat(self._file)  # noqa: PTH116  for every request, and a Path takes three times as long
        written = (status.st_mtime_ns, status.st_ino)
        read, served = self._current
        if written != read:
            served = Served.read(self.path)
            self._current = written, served
            for name in {*self._open} - {*served.stamps}:
                self._open.pop(name, None)
            for name in served.stamps:  # open the files now: a live version may be deleted later
                with suppress(*UNREADABLE):
                    self.recommender(name)
        return served

    def this_turn(self) -> Served:
        """What is served, for the event loop alone: it looks at the file once in each of its turns."""
        if not self._looked:
            self.current()
            self._looked = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        return self._current[1]

    def _next_turn(self) -> None:
        self._looked = False

    @property
    def last(self) -> Served:
        """What `current` returned last; for a caller that has just called `current`."""
        return self._current[1]

    def recommender(self, name: str) -> Recommender | None:
        """The version of a recommender that was live when `current` was last called, None where there was none.

        Raises OSError, ValueError, KeyError or TypeError if its files are not whole, or do not belong to the weights
        that Triton has loaded.
        """
        served = self.last
        version = served.recommenders[name]
        if version is None:
            return None
        stamp, found = self._open.get(name, ("", None))
        if found is None or stamp != served.stamps[name] or found.version != str(version):
            stamp = served.stamps[name]
            found = Recommender.open(self.view, name, version, served.max_batch_size, served.parts[name])
            if file_stamp(beside_weights(self.view / name / str(version))) != stamp:
                raise ValueError(f"the files of version {version} were changed while it is served")
            self._open[name] = (stamp, found)
        return found

    def unreadable(self) -> set[str]:
        """Triton's names of the parts of recommenders whose files this worker cannot read."""
        parts: set[str] = set()
        served = self.current()
        for name in served.stamps:
            try:
                self.recommender(name)
            except UNREADABLE:
                parts |= {*served.parts[name]}
        return parts
