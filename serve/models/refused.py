"""The versions that are not served, with the reasons: those that are not whole, and those that could not be loaded."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from serve.models.repository import Release, Repository, RepositoryError
from serve.models.view import View

log = logging.getLogger("serve")

# If Triton dies while a version is loaded, the version may not be the reason; if it dies again, the version is.
ATTEMPTS = 2


class Refused:
    """The versions of a repository that cannot be served; each is tried again when its files change."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._failed: dict[Release, str] = {}  # the reason of each version that could not be loaded
        self._broken: dict[str, str] = {}  # the reason of each <name>/<version> that is not whole
        self._attempts: Counter[Release] = Counter()

    def __contains__(self, release: Release) -> bool:
        return release in self._failed

    def candidates(self, repository: Repository, name: str) -> Iterator[Release]:
        """The versions of a recommender that may be loaded, newest first. The reason why another may not is logged
        once."""
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

    def begin(self, release: Release) -> None:
        """Count an attempt to load a version."""
        self._attempts[release] += 1

    def interrupted(self, release: Release, reason: str) -> None:
        """Triton died while a version was loaded: the version may be tried `ATTEMPTS` times."""
        if self._attempts[release] >= ATTEMPTS:
            self.add(release, f"Triton went away while it was loaded: {reason}")

    def add(self, release: Release, reason: str) -> None:
        """Note and log why a version cannot be served."""
        self._failed[release] = self.one_line(reason)
        log.error("%s: version %d is not served: %s", release.name, release.version, self._failed[release])

    def reasons(self, live: Mapping[str, Release | None]) -> dict[str, str]:
        """The reason of each `<name>/<version>` that is still in the repository and not live, sorted."""
        failed = {f"{each.name}/{each.version}": reason for each, reason in self._failed.items()} | self._broken
        served = {f"{each.name}/{each.version}" for each in live.values() if each}
        there = {version for version in failed if (self.view.repository / version).exists()}
        return {version: failed[version] for version in sorted(there - served)}

    def one_line(self, reason: str) -> str:
        """A reason without the traceback of Python or libtorch, and with the repository's paths, not the view's."""
        reason = " ".join(re.split(r"\n\nAt:|Exception raised from", reason)[0].split())
        return self.view.as_seen_outside(reason)
