"""What is served right now: one small file, read by every worker.

A worker looks at the file's time for each request and reads it when it is another one, so all workers change over to a
new version at once and none keeps a table of its own. The supervisor writes it; in multi-model mode the workers do too,
one at a time (`changing`).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from serve.errors import BadRequest, show
from serve.models.repository import Recommender, Release, file_stamp

# In the folder that the supervisor and its workers share.
SERVED_FILE, VIEW_FOLDER = "served.json", "models"
# What opening files that are not whole can raise.
UNREADABLE = (OSError, ValueError, KeyError, TypeError)


@dataclass
class Served:
    """The models Triton was given, and each recommender's live version, None where there is none.

    `stamps` has the stamp of the live versions' files, `versions` the live version of each recommender's parts,
    `max_batch_size` the rows a request to one may have, `failed` the reason of each version `<name>/<version>` that was
    tried and is not served.

    In multi-model mode, by the name SageMaker gave: `urls` where a loaded model is, `targets` the Target-Model header
    it was loaded with ("" without one), `parts` Triton's names of it and of what it needs; `loading` and `unloading`
    the process that is at it (see serve/processes.py); `processes` those that run a part; `starts` counts the starts of
    Triton.
    """

    ready: bool = False
    models: tuple[str, ...] = ()
    recommenders: dict[str, int | None] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    max_batch_size: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
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
        """Replace the file in one step."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)))
        # Two writes within one tick of the file system's clock would have one time, and a worker keep what it read.
        before = path.stat().st_mtime_ns if path.exists() else 0
        now = max(time.time_ns(), before + 1)
        os.utime(new, ns=(now, now))
        new.replace(path)

    @property
    def choices(self) -> tuple[str, ...]:
        """What a request can name: the recommenders, or the models where there are none."""
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
        """From now on requests to a model that was loaded in multi-model mode are answered; of a recommender's parts
        `sizes` are the rows that a request may have."""
        self.loading.pop(name, None)
        self.urls[name], self.targets[name], self.parts[name] = url, target, list(parts)
        self.models = tuple(self.urls)
        if release:
            self.recommenders[name], self.stamps[name] = release.version, release.stamp
            self.versions |= dict.fromkeys(parts, release.version)
            self.max_batch_size |= sizes

    def withdraw(self, name: str) -> None:
        """Forget a model that was loaded in multi-model mode; its processes are known until they have ended."""
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
    """What is served, to be changed in place and written at the end, unless that raises or nothing was changed.

    One thread of one process at a time.
    """
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        served = Served.read(path)
        before = asdict(served)
        yield served
        if asdict(served) != before:
            served.write(path)


class ServedFile:
    """A worker's view of the file, and the recommenders it has opened; `view` is the folder that Triton sees."""

    def __init__(self, path: Path, view: Path) -> None:
        self.path, self.view = path, view
        self._file = str(path)
        # In one piece, because several threads may read at once.
        self._current: tuple[tuple[int, int], Served] = ((0, 0), Served())
        self._open: dict[str, tuple[str, Recommender]] = {}  # by name: the stamp, and what it is the stamp of

    def current(self) -> Served:
        """What is served, which is not to be changed here."""
        status = os.stat(self._file)  # noqa: PTH116  for every request, and a Path takes three times as long
        written = (status.st_mtime_ns, status.st_ino)
        read, served = self._current
        if written != read:
            served = Served.read(self.path)
            self._current = written, served
            for name in {*self._open} - {*served.stamps}:
                self._open.pop(name, None)
            for name in served.stamps:  # now, while the files are there
                with suppress(*UNREADABLE):
                    self.recommender(name)
        return served

    @property
    def last(self) -> Served:
        """What `current` gave last: enough for who has just asked."""
        return self._current[1]

    def recommender(self, name: str) -> Recommender | None:
        """The live version of a recommender, None where there is none.

        Raises OSError, ValueError, KeyError or TypeError if its files are not whole, or not those Triton has loaded.
        """
        served = self.current()
        version = served.recommenders[name]
        if version is None:
            return None
        stamp, found = self._open.get(name, ("", None))
        parts = served.parts.get(name)
        if found is None or stamp != served.stamps[name] or found.version != str(version):
            stamp = served.stamps[name]
            if file_stamp(self.view / name / str(version)) != stamp:
                raise ValueError(f"the files of version {version} were changed while it is served")
            found = Recommender.open(self.view, name, version, served.max_batch_size, parts)
            self._open[name] = (stamp, found)
        return found
