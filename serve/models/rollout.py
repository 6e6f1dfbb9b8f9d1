"""Puts versions of recommenders live: at the start, when a new one is exported, and when one is withdrawn.

Triton sees a folder of links, the view. A new version is linked in beside the old one and loaded; when all parts of the
recommender are ready, one write of the served file (models/served.py) changes every worker over; the old version is
unloaded when the requests that still use it have had time to end. A version that cannot be loaded is unlinked again,
and the one before stays.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from serve.errors import Unavailable
from serve.models.repository import Release, Repository, RepositoryError, weights_stamp
from serve.models.served import Served
from serve.models.view import View
from serve.recommend.recommender import Recommender, part_names
from serve.triton.admin import LoadFailed, TritonAdmin

log = logging.getLogger("serve")

LOOK_SECONDS = 1.0
# For requests that have chosen the old version and not reached Triton yet; those that Triton has it finishes itself.
RETIRE_SECONDS = 10.0
# A version may meet a Triton that goes away for another reason; the second time it is the version.
ATTEMPTS = 2
NO_REASON = "Triton's own lines above say why; SAGEMAKER_TRITON_LOG_INFO=true shows more"
BROKEN = (LoadFailed, OSError, ValueError, KeyError, TypeError)


@dataclass
class Rollout:
    """The versions that are live. `view` and `served_file` are written here alone."""

    view: View
    served_file: Path
    served: Served = field(default_factory=Served)
    default: str | None = None  # the model of requests that name none
    plain: tuple[str, ...] = ()  # models that are loaded and belong to no recommender
    live: dict[str, Release | None] = field(default_factory=dict)  # by recommender; None where no version can be loaded
    _aside: set[str] = field(default_factory=set)  # models for ensembles to find; loaded if something asks for them
    _failed: dict[Release, str] = field(default_factory=dict)  # what could not be loaded, and why
    _broken: dict[str, str] = field(default_factory=dict)  # <name>/<version> that is not whole, and why
    _attempts: Counter[Release] = field(default_factory=Counter)
    _seen: set[Release] = field(default_factory=set)  # new versions at the last look
    _changed: set[Release] = field(default_factory=set)  # live versions whose files are other ones now
    _retiring: list[tuple[float, Release]] = field(default_factory=list)
    _max_batch_size: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lay_out(self, models: tuple[str, ...]) -> None:
        """Lay out the empty view: of recommenders the newest whole version, the others as they are, and models that
        shall not be loaded too, because an ensemble or a flag of Triton's may name them."""
        repository = Repository.scan(self.view.repository)
        for name in set(repository.recommenders) & set(models):
            self.live[name] = next((each for each in self._candidates(repository, name) if self._place(each)), None)
        choices = tuple(self.live) or models
        if self.default is None and len(choices) == 1:
            self.default = choices[0]
        parts = self.parts()
        self.plain = tuple(name for name in models if name not in parts)
        self._aside = set(repository.models) - set(models) - parts
        for name in (*self.plain, *sorted(self._aside)):
            self.view.link(name)
        self._write(ready=False, models=models)

    def to_load(self) -> list[str]:
        """What Triton shall load when it starts."""
        return [name for name in self.view.to_load() if name not in self._aside]

    def parts(self) -> set[str]:
        """The models that belong to recommenders, whether these can be loaded or not."""
        return {part for name in self.live for part in part_names(name)}

    def settle(self, admin: TritonAdmin) -> list[str]:
        """After a start of Triton: where a recommender's version cannot answer, the newest older one that can; -> the
        recommenders without any. Raises Unavailable."""
        with self._lock:
            repository = Repository.scan(self.view.repository)
            for name, release in [*self.live.items()]:
                if release and self._answers(admin, release := self._again(release)):
                    self.live[name] = release
                    continue
                self.live[name] = None
                for older in self._candidates(repository, name):
                    if self._load(admin, older):
                        self.live[name] = older
                        if older != release:
                            log.info("%s: version %d is served instead", name, older.version)
                        break
            self._write(ready=True)
            return [name for name, live in self.live.items() if live is None]

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
            except Exception:  # a bug of ours: the next look may be of something else
                log.exception("looking for new versions failed")

    def look(self, admin: TritonAdmin) -> None:
        """One look: load what is new and has not changed since the last look, unload what has had its time."""
        with self._lock:
            if not self.served.ready:
                return
            for part in self.served.versions:
                self.view.mend(part)
            repository, seen = Repository.scan(self.view.repository), set[Release]()
            before = dict(self._broken)
            # None where a model of another kind was chosen: a recommender beside it would answer in its place.
            for name in repository.recommenders if self.live else ():
                newest, live = next(self._candidates(repository, name), None), self.live.get(name)
                if newest is None:
                    continue
                if live is None or live.version != newest.version:
                    seen.add(newest)
                    if newest in self._seen:  # nobody is writing it any more
                        self._change(admin, newest, live)
                elif live != newest and newest not in self._changed:
                    self._changed.add(newest)
                    log.error("%s: the files of version %d changed; export them as a new version", name, live.version)
            self._seen = seen
            self._retire(admin)
            if self._broken != before:
                self._write(ready=True)

    def _candidates(self, repository: Repository, name: str) -> Iterator[Release]:
        """The versions worth loading, newest first; why one is not is said once."""
        for release in repository.releases(name):
            if isinstance(release, RepositoryError):
                version, reason = f"{name}/{release.version}", str(release)
                if self._broken.get(version) != reason:
                    self._broken[version] = reason
                    log.error("%s: version %d is not whole: %s", name, release.version, reason)
                continue
            self._broken.pop(f"{name}/{release.version}", None)
            if release not in self._failed:
                yield release

    def _change(self, admin: TritonAdmin, new: Release, old: Release | None) -> None:
        began = time.monotonic()
        log.info("%s: loading version %d", new.name, new.version)
        if not self._load(admin, new):
            self._write(ready=True)
            if old:
                log.error("%s: version %d stays", new.name, old.version)
            return
        self.live[new.name] = new
        self._write(ready=True)
        was = f", was {old.version}" if old else ""
        log.info("%s: version %d is live after %.1f s%s", new.name, new.version, time.monotonic() - began, was)
        if old is None and self.default not in (None, new.name):
            log.info(
                "requests that name no model still go to %s; SAGEMAKER_TRITON_DEFAULT_MODEL_NAME chooses another when "
                "serve is started again",
                self.default,
            )
        back = (new.name, new.version)
        self._retiring = [(when, each) for when, each in self._retiring if (each.name, each.version) != back]
        if old:
            self._retiring.append((time.monotonic() + RETIRE_SECONDS, old))

    def _load(self, admin: TritonAdmin, release: Release) -> bool:
        """Load a version beside what is there. Raises Unavailable."""
        if not self._place(release):
            return False
        self._attempts[release] += 1
        try:
            with ThreadPoolExecutor(len(release.parts)) as pool:
                list(pool.map(lambda part: self._reload(admin, part), release.parts))
            if not self._answers(admin, release):
                if release not in self._failed:
                    self._give_up(admin, release, NO_REASON)
                return False
        except Unavailable as error:
            self.view.unlink(release)
            if self._attempts[release] >= ATTEMPTS:
                self._say_failed(release, f"Triton went away while it was loaded: {error}")
            raise
        except BROKEN as error:
            self._give_up(admin, release, str(error))
            return False
        return True

    def _answers(self, admin: TritonAdmin, release: Release) -> bool:
        """Whether all parts are ready and the files beside them whole; else, if Triton has tried it, it is given up."""
        states = [
            state for state in admin.index() if state.name in release.parts and state.version == str(release.version)
        ]
        failed = [f"{state.name}: {state.reason or NO_REASON}" for state in states if not state.ready]
        if failed or len(states) < len(release.parts):
            if failed:
                self._give_up(admin, release, failed[0])
            return False
        try:
            Recommender.open(self.view.folder, release.name, release.version, self._max_batch_size)
        except BROKEN as error:
            self._give_up(admin, release, str(error))
            return False
        return True

    def _again(self, release: Release) -> Release:
        """What is loaded of a release after another start of Triton: the same with its own ids, unless somebody has
        changed its weights in the repository; then the ids are taken from there again, too."""
        try:
            if weights_stamp(self.view.folder, release.parts, release.version) == release.weights:
                return release
            now = Release.read(self.view.repository, release.name, release.version)
        except (RepositoryError, OSError):  # it is not there any more, and will not be ready
            return release
        return now if self._place(now) else release

    def _give_up(self, admin: TritonAdmin, release: Release, reason: str) -> None:
        """Unload a version that cannot be served, and do not try it again until its files change."""
        self._say_failed(release, reason)
        self._unload(admin, release)

    def _say_failed(self, release: Release, reason: str) -> None:
        self._failed[release] = self.one_line(reason)
        log.error("%s: version %d is not served: %s", release.name, release.version, self._failed[release])

    def _retire(self, admin: TritonAdmin) -> None:
        now = time.monotonic()
        for when, release in self._retiring:
            if when <= now:
                self._unload(admin, release)
        self._retiring = [(when, release) for when, release in self._retiring if when > now]

    def _unload(self, admin: TritonAdmin, release: Release) -> None:
        """Take one version away from Triton; other versions of the same models stay."""
        self.view.unlink(release)
        for part in release.parts:
            try:
                if self.view.versions(part):
                    self._reload(admin, part)
                else:
                    admin.unload(part)
            except (LoadFailed, OSError) as error:
                log.error("%s version %d: %s", part, release.version, self.one_line(str(error)))

    def _reload(self, admin: TritonAdmin, part: str) -> None:
        """Have Triton look at a part's folder again."""
        self.view.mend(part)
        admin.load(part)

    def _place(self, release: Release) -> bool:
        try:
            self._max_batch_size |= self.view.place(release)
            self._aside -= set(release.parts)
        except (OSError, ValueError) as error:
            self._say_failed(release, str(error))
            self.view.unlink(release)
            return False
        return True

    def _write(self, ready: bool, models: tuple[str, ...] | None = None) -> None:
        names = models if models is not None else tuple(sorted({*self.served.models, *self.parts()}))
        live = {name: release if ready else None for name, release in sorted(self.live.items())}
        failed = {f"{each.name}/{each.version}": reason for each, reason in self._failed.items()} | self._broken
        self.served = Served(
            ready,
            names,
            {name: each.version if each else None for name, each in live.items()},
            {name: each.stamp for name, each in live.items() if each},
            {part: each.version for each in live.values() if each for part in each.parts},
            dict(self._max_batch_size),
            {version: failed[version] for version in sorted(failed) if self._is_there(version)},
            default=self.default,
        )
        self.served.write(self.served_file)

    def _is_there(self, version: str) -> bool:
        """Whether a failed version is still in the repository, and not live after all."""
        name, _, number = version.rpartition("/")
        live = self.live.get(name)
        return (self.view.repository / version).exists() and not (live and str(live.version) == number)

    def one_line(self, reason: str) -> str:
        """Without a traceback of Python or libtorch, the caller's repository in place of the links Triton was given."""
        reason = " ".join(re.split(r"\n\nAt:|Exception raised from", reason)[0].split())
        return self.view.as_seen_outside(reason)
