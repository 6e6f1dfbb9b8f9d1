"""Makes versions of recommenders live: at the start, when a new version is exported, and when one is withdrawn.

Triton sees a folder of its own, the view (models/view.py). A new version is shown there beside the old one and loaded.
When all parts of the recommender are ready, one write of the served file (models/served.py) makes every worker use the
new version. The old version is unloaded a little later, when the requests that still use it have ended. A version that
cannot be loaded is removed from the view, and the old one stays live.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from serve.errors import Unavailable
from serve.models.refused import Refused
from serve.models.repository import Release, Repository, RepositoryError
from serve.models.served import Served
from serve.models.view import View
from serve.recommend.recommender import Recommender
from serve.triton.admin import LoadFailed, TritonAdmin

log = logging.getLogger("serve")

LOOK_SECONDS = 1.0
# How long a replaced version stays loaded, for requests that have chosen it and have not reached Triton yet; Triton
# itself finishes the requests it has before it unloads a version.
RETIRE_SECONDS = 10.0
NO_REASON = "Triton's own lines above say why; SAGEMAKER_TRITON_LOG_INFO=true shows more"
BROKEN = (LoadFailed, OSError, ValueError, KeyError, TypeError)


@dataclass
class Rollout:
    """The versions that are live. No other code of the supervisor writes to `view` and `served_file`."""

    view: View
    served_file: Path
    served: Served = field(default_factory=Served)
    default: str | None = None  # the model of requests that name none
    plain: tuple[str, ...] = ()  # models that are loaded and belong to no recommender
    live: dict[str, Release | None] = field(default_factory=dict)  # by recommender; None where no version can be loaded
    _parts: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by recommender, also where none can be loaded
    _aside: set[str] = field(default_factory=set)  # models that are loaded only if an ensemble or a flag names them
    _seen: set[Release] = field(default_factory=set)  # new versions at the last look
    _changed: set[Release] = field(default_factory=set)  # live versions as they are after somebody changed their files
    _retiring: list[tuple[float, Release]] = field(default_factory=list)  # when each replaced version is unloaded
    _max_batch_size: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.refused = Refused(self.view)

    def lay_out(self, models: tuple[str, ...]) -> None:
        """Fill the empty view: with the newest whole version of each recommender among `models`, with the other models
        as they are, and with the models that are not to be loaded, because an ensemble or one of Triton's flags may
        name them. Raises OSError."""
        repository = Repository.scan(self.view.repository)
        for name in set(repository.recommenders) & set(models):
            self.live[name] = next(
                (each for each in self.refused.candidates(repository, name) if self._place(each)), None
            )
        choices = tuple(self.live) or models
        if self.default is None and len(choices) == 1:
            self.default = choices[0]
        self._parts = {name: tuple(sorted(repository.parts(name))) for name in self.live}
        parts = {part for each in self._parts.values() for part in each}
        self.plain = tuple(name for name in models if name not in parts)
        # Files beside the models may be what a model's configuration names, such as ../environment.tar.gz.
        self._aside = {*repository.models, *repository.files} - {*models, *parts}
        for name in (*self.plain, *sorted(self._aside)):
            self.view.link(name)
        self._write(ready=False)

    def to_load(self) -> list[str]:
        """The models that Triton loads when it starts."""
        return [name for name in self.view.to_load() if name not in self._aside]

    def settle(self, admin: TritonAdmin) -> list[str]:
        """After a start of Triton: replace versions that cannot answer by the newest older ones that can; -> the
        recommenders that have none. Raises Unavailable."""
        with self._lock:
            repository = Repository.scan(self.view.repository)
            for name, release in [*self.live.items()]:
                self.live[name] = None
                if release and self._answers(admin, release := self._again(release)):
                    self.live[name] = release
                    continue
                for older in self.refused.candidates(repository, name):
                    if self._load(admin, older):
                        self.live[name] = older
                        if older != release:
                            log.info("%s: version %d is served instead", name, older.version)
                        break
            self._write(ready=True)
            return [name for name, live in self.live.items() if live is None]

    def pause(self) -> None:
        """Triton has ended: nothing is ready until the next `settle`."""
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
            except Exception:  # a bug in this file must not end the thread: the next look may succeed
                log.exception("looking for new versions failed")

    def look(self, admin: TritonAdmin) -> None:
        """Load versions that are new and have not changed since the last look; unload replaced ones whose time is
        over. Raises Unavailable or OSError."""
        with self._lock:
            if not self.served.ready:
                return
            for part in self.served.versions:
                self.view.mend(part)
            repository, seen = Repository.scan(self.view.repository), set[Release]()
            # If a plain model is served (no recommenders), recommenders that appear later are not loaded: requests that
            # name no model would go to them.
            for name in repository.recommenders if self.live else ():
                newest, live = next(self.refused.candidates(repository, name), None), self.live.get(name)
                if newest is None:
                    continue
                if live is None or live.version != newest.version:
                    seen.add(newest)
                    if newest in self._seen:  # it has not changed for a second, so its writer has finished
                        self._change(admin, newest, live)
                elif live != newest and newest not in self._changed:
                    self._changed.add(newest)
                    log.error(
                        "%s: the files of version %d changed; export them as a new version; until then version %d is "
                        "served as it was loaded",
                        name,
                        live.version,
                        live.version,
                    )
            self._seen = seen
            self._retire(admin)
            if self.refused.reasons(self.live) != self.served.failed:
                self._write(ready=True)

    def _change(self, admin: TritonAdmin, new: Release, old: Release | None) -> None:
        """Make a new version live in place of the old one. Raises Unavailable."""
        began = time.monotonic()
        log.info("%s: loading version %d", new.name, new.version)
        if not self._load(admin, new):
            self._write(ready=True)
            if old and self.live[new.name]:
                log.error("%s: version %d stays", new.name, old.version)
            return
        self.live[new.name] = new
        self._write(ready=True)
        was = f", was {old.version}{new.lacks(old)}" if old else ""
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
        """Load a version beside those that are loaded; -> whether it can answer. Raises Unavailable."""
        if not self._place(release):
            return False
        self.refused.begin(release)
        self._stop_if_changed(release.name)
        try:
            with ThreadPoolExecutor(len(release.parts)) as pool:
                list(pool.map(lambda part: self._reload(admin, part), release.parts))
            if not self._answers(admin, release):
                if release not in self.refused:
                    self._give_up(admin, release, NO_REASON)
                return False
        except Unavailable as error:
            self.view.unlink(release)
            self.refused.interrupted(release, str(error))
            raise
        except BROKEN as error:
            self._give_up(admin, release, str(error))
            return False
        return True

    def _answers(self, admin: TritonAdmin, release: Release) -> bool:
        """Whether all parts of a version are ready and its files are whole; a version that Triton has tried to load and
        that cannot answer is given up. Raises Unavailable."""
        states = [
            state for state in admin.index() if state.name in release.parts and state.version == str(release.version)
        ]
        failed = [f"{state.name}: {state.reason or NO_REASON}" for state in states if not state.ready]
        if failed or len(states) < len(release.parts):
            if failed:
                self._give_up(admin, release, failed[0])
            return False
        try:
            Recommender.open(self.view.folder, release.name, release.version, self._max_batch_size, release.parts)
        except BROKEN as error:
            self._give_up(admin, release, str(error))
            return False
        return True

    def _again(self, release: Release) -> Release:
        """A live version after another start of Triton. If its weights were changed in the repository, Triton has
        loaded the new ones, so the ids are copied from there again, too."""
        if not self.view.has_other_weights(release):
            return release
        try:
            now = Release.read(self.view.repository, release.name, release.version)
        except RepositoryError:  # it is not whole any more
            return release
        return now if self._place(now) else release

    def _stop_if_changed(self, name: str) -> None:
        """Stop serving a live version whose weights were changed. When Triton loads or unloads another version, it also
        loads the changed weights, which must not be used with the old ids. The next looks load the version anew."""
        live = self.live.get(name)
        if live and self.view.has_other_weights(live):
            log.error("%s: version %d is loaded anew, because its weights were changed", name, live.version)
            self.live[name] = None
            self._write(ready=True)

    def _give_up(self, admin: TritonAdmin, release: Release, reason: str) -> None:
        """Unload a version that cannot answer, and do not load it again until its files change."""
        self.refused.add(release, reason)
        self._unload(admin, release)

    def _retire(self, admin: TritonAdmin) -> None:
        """Unload the replaced versions whose time is over."""
        now = time.monotonic()
        for when, release in self._retiring:
            if when <= now:
                self._unload(admin, release)
        self._retiring = [(when, release) for when, release in self._retiring if when > now]

    def _unload(self, admin: TritonAdmin, release: Release) -> None:
        """Have Triton unload one version; other versions of the same models stay loaded."""
        self._stop_if_changed(release.name)
        self.view.unlink(release)
        for part in release.parts:
            try:
                if self.view.versions(part):
                    self._reload(admin, part)
                else:
                    admin.unload(part)
            except (LoadFailed, OSError) as error:
                log.error("%s version %d: %s", part, release.version, self.refused.one_line(str(error)))

    def _reload(self, admin: TritonAdmin, part: str) -> None:
        """Have Triton load the versions of a part that the view shows, and unload the others."""
        self.view.mend(part)
        admin.load(part)

    def _place(self, release: Release) -> bool:
        """Show a version in the view; -> whether that was possible."""
        try:
            self._max_batch_size |= self.view.keep(release)
            self._aside -= set(release.parts)
        except (OSError, ValueError) as error:
            self.refused.add(release, str(error))
            self.view.unlink(release)
            return False
        return True

    def _write(self, ready: bool) -> None:
        """Tell the workers which versions are live."""
        self._parts |= {name: each.parts for name, each in self.live.items() if each}
        names = tuple(sorted({*self.plain, *(part for parts in self._parts.values() for part in parts)}))
        live = {name: release if ready else None for name, release in sorted(self.live.items())}
        self.served = Served(
            ready,
            names,
            {name: each.version if each else None for name, each in live.items()},
            {name: each.stamp for name, each in live.items() if each},
            {part: each.version for each in live.values() if each for part in each.parts},
            dict(self._max_batch_size),
            self.refused.reasons(self.live),
            default=self.default,
            parts={name: list(each.parts) for name, each in live.items() if each},
        )
        self.served.write(self.served_file)
