"""What is served right now: written by the supervisor into one small file, read by every worker.

A worker looks at the file's time for each request and reads it when it is another one, so all workers change over to a
new version at once and none keeps a table of its own.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from serve.repository import Recommender, file_stamp

# In the folder that the supervisor and its workers share.
SERVED_FILE, VIEW_FOLDER = "served.json", "models"
# What opening files that are not whole can raise.
UNREADABLE = (OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class Served:
    """The models Triton was given, and each recommender's live version, None where there is none.

    `stamps` has the stamp of the live versions' files, `versions` the live version of each recommender's parts,
    `max_batch_size` the rows a request to one may have, `failed` the reason of each version `<name>/<version>` that was
    tried and is not served.
    """

    ready: bool = False
    models: tuple[str, ...] = ()
    recommenders: dict[str, int | None] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    max_batch_size: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace the file in one step."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)))
        new.replace(path)

    @property
    def choices(self) -> tuple[str, ...]:
        """What a request can name: the recommenders, or the models where there are none."""
        return tuple(self.recommenders) or self.models


class ServedFile:
    """A worker's view of the file, and the recommenders it has opened; `view` is the folder that Triton sees."""

    def __init__(self, path: Path, view: Path) -> None:
        self.path, self.view = path, view
        self._read: tuple[int, int] | None = None
        self._current = Served()
        self._open: dict[str, tuple[str, Recommender]] = {}  # by name: the stamp, and what it is the stamp of

    def current(self) -> Served:
        status = os.stat(self.path)  # noqa: PTH116  for every request, and a Path takes three times as long
        written = (status.st_mtime_ns, status.st_ino)
        if written != self._read:
            read = json.loads(self.path.read_text())
            self._current = Served(**{**read, "models": tuple(read["models"])})
            self._read = written
            for name in self._current.stamps:  # now, while the files are there
                with suppress(*UNREADABLE):
                    self.recommender(name)
        return self._current

    def recommender(self, name: str) -> Recommender | None:
        """The live version of a recommender, None where there is none.

        Raises OSError, ValueError, KeyError or TypeError if its files are not whole, or not those Triton has loaded.
        """
        served = self.current()
        version = served.recommenders[name]
        if version is None:
            return None
        stamp, found = self._open.get(name, ("", None))
        if found is None or stamp != served.stamps[name] or found.version != str(version):
            stamp = served.stamps[name]
            if file_stamp(self.view / name / str(version)) != stamp:
                raise ValueError(f"the files of version {version} were changed while it is served")
            found = Recommender.open(self.view, name, version, served.max_batch_size)
            self._open[name] = (stamp, found)
        return found
