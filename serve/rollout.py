"""Puts versions of recommenders live: at the start, when a new one is exported, and when one is withdrawn.

Triton sees a folder of links, the view. A new version is linked in beside the old one and loaded; when all parts of the
recommender are ready, one write of the served file (serve/served.py) changes every worker over; the old version is
unloaded when the requests that still use it have had time to end. A version that cannot be loaded is unlinked again,
and the one before stays.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.errors import Unavailable
from serve.model_config import for_all_versions
from serve.repository import Recommender, Release, Repository, RepositoryError
from serve.served import Served
from serve.triton_admin import LoadFailed, TritonAdmin

log = logging.getLogger("serve")

LOOK_SECONDS = 1.0
# For requests that have chosen the old version and not reached Triton yet; those that Triton has it finishes itself.
RETIRE_SECONDS = 10.0
NO_REASON = "Triton gave no reason; SAGEMAKER_TRITON_LOG_INFO=true shows more"


@dataclass
class Rollout:
    """The versions that are live. `view` and `served_file` are written here alone."""

    repository: Path
    view: Path
    served_file: Path
    served: Served = field(default_factory=Served)
    plain: tuple[str, ...] = ()  # models that belong to no recommender
    _live: dict[str, Release | None] = field(default_factory=dict)
    _failed: set[Any] = field(default_factory=set)  # stamps of versions that could not be loaded
    _seen: set[Any] = field(default_factory=set)  # stamps of new versions at the last look
    _reasons: dict[str, str] = field(default_factory=dict)
    _said: set[Any] = field(default_factory=set)
    _retiring: list[tuple[float, Release]] = field(default_factory=list)
    _max_batch_size: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lay_out(self, models: tuple[str, ...]) -> tuple[str, ...]:
        """Lay out the models in the empty view, the newest whole version of each recommender; -> what Triton loads."""
        self.view.mkdir()
        repository = Repository.scan(self.repository)
        for name in repository.recommenders:
            self._live[name] = None
            for release in self._candidates(repository, name):
                if self._place(release):
                    self._live[name] = release
                    break
        self.plain = tuple(name for name in models if name not in self.parts())
        for name in self.plain:
            (self.view / name).symlink_to((self.repository / name).absolute())
        laid_out = tuple(name for name in models if (self.view / name).exists())
        self._write(ready=False, models=models)
        return laid_out

    def settle(self, admin: TritonAdmin) -> dict[str, str]:
        """After a start of Triton: where a recommender's version is not ready, the newest older one that is; -> the
        reasons of the recommenders that have none. Raises Unavailable."""
        with self._lock:
            reasons: dict[str, str] = {}
            for name in self._live:
                ready = {(state.name, state.version) for state in admin.index() if state.ready}
                release = self._live[name]
                if release and all((part, str(release.version)) in ready for part in release.parts):
                    continue
                if release:
                    reasons[name] = self._reason(admin, release)
                    self._give_up(admin, release, reasons[name])
                self._live[name] = None
                for older in self._candidates(Repository.scan(self.repository), name):
                    if self._load(admin, older):
                        self._live[name] = older
                        log.info("%s: version %d is served instead", name, older.version)
                        break
            self._write(ready=True)
            return {name: reasons.get(name, "no whole version") for name, live in self._live.items() if live is None}

    def parts(self) -> set[str]:
        """The models that belong to recommenders."""
        return {part for release in self._live.values() if release for part in release.parts} | set(self._live)

    def pause(self) -> None:
        """Triton has gone: nothing is ready until the next `settle`."""
        with self._lock:
            self._write(ready=False)

    def watch(self, admin: TritonAdmin, stopped: threading.Event) -> None:
        """Look for new and withdrawn versions until `stopped`; runs in a thread of its own."""
        while not stopped.wait(LOOK_SECONDS):
            try:
                self.look(admin)
            except (Unavailable, OSError) as error:
                if not stopped.is_set():
                    log.error("cannot look for new versions: %s", error)

    def look(self, admin: TritonAdmin) -> None:
        """One look: load what is new and has not changed since the last look, unload what has had its time."""
        with self._lock:
            if not self.served.ready:
                return
            repository, seen = Repository.scan(self.repository), set()
            for name in repository.recommenders:
                newest = next(iter(self._candidates(repository, name)), None)
                live = self._live.get(name)
                if newest is None or (live and live.version == newest.version):
                    continue
                stamp = newest.stamp(self.repository)
                seen.add(stamp)
                if stamp in self._seen:  # nobody is writing it any more
                    self._change(admin, newest, live)
            self._seen = seen
            self._retire(admin)

    def _candidates(self, repository: Repository, name: str) -> list[Release]:
        """The versions worth loading, newest first; why one is not is said once."""
        found = []
        for release in repository.releases(name):
            if isinstance(release, RepositoryError):
                if (name, str(release)) not in self._said:
                    self._said.add((name, str(release)))
                    log.error("%s: %s", name, release)
                continue
            with suppress(OSError):  # withdrawn in this moment
                if release.stamp(self.repository) not in self._failed:
                    found.append(release)
        return found

    def _change(self, admin: TritonAdmin, new: Release, old: Release | None) -> None:
        began = time.monotonic()
        log.info("%s: loading version %d", new.name, new.version)
        if not self._load(admin, new):
            self._write(ready=True)
            if old:
                log.error("%s: version %d stays", new.name, old.version)
            return
        self._live[new.name] = new
        self._write(ready=True)
        seconds = time.monotonic() - began
        log.info(
            "%s: version %d is live after %.1f s%s",
            new.name,
            new.version,
            seconds,
            f", was {old.version}" if old else "",
        )
        self._retiring = [(when, each) for when, each in self._retiring if each != new]
        if old:
            self._retiring.append((time.monotonic() + RETIRE_SECONDS, old))

    def _load(self, admin: TritonAdmin, release: Release) -> bool:
        """Load a version beside what is there. Raises Unavailable."""
        if not self._place(release):
            return False
        try:
            with ThreadPoolExecutor(len(release.parts)) as pool:
                list(pool.map(lambda part: self._reload(admin, part), release.parts))
            ready = {(state.name, state.version) for state in admin.index() if state.ready}
            if not all((part, str(release.version)) in ready for part in release.parts):
                raise LoadFailed(self._reason(admin, release))
            Recommender.open(self.repository, release.name, release.version, self._max_batch_size)
        except Unavailable:
            self._unlink(release)
            raise
        except (LoadFailed, OSError, ValueError, KeyError, TypeError) as error:
            self._give_up(admin, release, str(error))
            return False
        return True

    def _give_up(self, admin: TritonAdmin, release: Release, reason: str) -> None:
        """Unload a version that cannot be served, and do not try it again until its files change."""
        self._say_failed(release, reason)
        self._unload(admin, release)

    def _say_failed(self, release: Release, reason: str) -> None:
        reason = self.one_line(reason)
        log.error("%s: version %d is not served: %s", release.name, release.version, reason)
        self._reasons[f"{release.name}/{release.version}"] = reason
        with suppress(OSError):  # withdrawn in this moment
            self._failed.add(release.stamp(self.repository))

    def _retire(self, admin: TritonAdmin) -> None:
        now = time.monotonic()
        for when, release in self._retiring:
            if when <= now:
                self._unload(admin, release)
        self._retiring = [(when, release) for when, release in self._retiring if when > now]

    def _unload(self, admin: TritonAdmin, release: Release) -> None:
        """Take one version away from Triton; other versions of the same models stay."""
        self._unlink(release)
        for part in release.parts:
            try:
                if any(path.name.isdecimal() for path in (self.view / part).iterdir()):
                    self._reload(admin, part)
                else:
                    admin.unload(part)
            except (LoadFailed, OSError) as error:
                log.error("%s version %d: %s", part, release.version, self.one_line(str(error)))

    def _reload(self, admin: TritonAdmin, part: str) -> None:
        """Have Triton look at a part's folder again. One link that leads nowhere would make it refuse all versions, so
        the link to a version that was withdrawn while it is loaded follows it to its new name."""
        for link in (self.view / part).iterdir():
            if link.is_symlink() and not link.exists():
                withdrawn = self.repository.absolute() / part / f".withdrawn-{link.name}"
                link.unlink()
                if withdrawn.exists():
                    link.symlink_to(withdrawn)
        admin.load(part)

    def _place(self, release: Release) -> bool:
        """Link a version into the view; the configuration is the one that is there now."""
        try:
            for part in release.parts:
                folder = self.view / part
                folder.mkdir(exist_ok=True)
                source = (self.repository / part).absolute()
                text, self._max_batch_size[part] = for_all_versions((source / "config.pbtxt").read_text())
                (folder / "config.pbtxt").write_text(text)
                for beside in (*source.iterdir(), source / str(release.version)):
                    wanted = beside.name == str(release.version) or not re.fullmatch(
                        r"[0-9]+|config\.pbtxt|\..*", beside.name
                    )
                    if wanted and not (folder / beside.name).is_symlink():
                        (folder / beside.name).symlink_to(beside)
        except (OSError, ValueError) as error:
            self._say_failed(release, str(error))
            self._unlink(release)
            return False
        return True

    def _unlink(self, release: Release) -> None:
        for part in release.parts:
            (self.view / part / str(release.version)).unlink(missing_ok=True)

    def _write(self, ready: bool, models: tuple[str, ...] | None = None) -> None:
        names = models if models is not None else tuple(sorted({*self.served.models, *self.parts()}))
        live = {name: release.version if release else None for name, release in sorted(self._live.items())}
        live_now = {f"{name}/{version}" for name, version in live.items()}
        failed = {version: reason for version, reason in self._reasons.items() if version not in live_now}
        versions = {part: each.version for each in self._live.values() if each for part in each.parts}
        self.served = Served(ready, names, live, versions, dict(self._max_batch_size), failed)
        self.served.write(self.served_file)

    def _reason(self, admin: TritonAdmin, release: Release) -> str:
        """Triton's reason why a version is not ready."""
        for state in admin.index():
            if state.name in release.parts and state.version == str(release.version) and not state.ready:
                return f"{state.name}: {state.reason}"
        return NO_REASON

    def one_line(self, reason: str) -> str:
        """Without a traceback of Python or libtorch, the caller's repository in place of the links Triton was given."""
        reason = " ".join(re.split(r"\n\nAt:|Exception raised from", reason)[0].split())
        return re.sub(rf"{re.escape(str(self.view))}(?=/)", str(self.repository), reason)
