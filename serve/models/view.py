"""The folder that Triton sees in place of the repository: links to the models, and the versions that are wanted.

It has links, because Triton's Python backend takes plain paths only, and because Triton then loads an old and a new
version side by side and no others, whatever else is in the repository.

Of a recommender's version it has copies of the files beside the weights. Workers map these files as long as the version
is live, so a file that is cut short in the repository would kill them (SIGBUS), and a worker that starts later would
find other ids than those that belong to the loaded weights. A hard link would not help: it is the same file. The copies
take about 16 bytes and the id's text for each user and item in the temporary folder (1,000,000 numbers 23 MB, UUIDs
52 MB). Weights are linked, because Triton reads them once, when it loads them.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serve.models.repository import WEIGHTS, Release, beside_weights, file_stamp, weights_stamp
from serve.triton.model_config import for_all_versions

log = logging.getLogger("serve")


@dataclass(frozen=True)
class View:
    """`folder` shows `repository`, both absolute; nothing outside `folder` is ever written.

    A part of a recommender whose configuration leaves their number open gets so many `instances`.
    """

    repository: Path
    folder: Path
    instances: int = 1
    _held: dict[Path, int] = field(default_factory=dict)  # open weights, by the folder of their version

    def link(self, name: str) -> None:
        """Show a model that belongs to no recommender as it is."""
        (self.folder / name).symlink_to(self.repository / name)

    def place(self, release: Release, names: Mapping[str, str] | None = None) -> dict[str, int]:
        """Show a version of a recommender, with the present configuration; -> max_batch_size of its parts.

        `names` has the names of the parts in the view, where they differ. Raises OSError or ValueError.
        """
        sizes = {}
        shown = self.folder / (names[release.name] if names else release.name) / str(release.version)
        if not (shown.is_dir() and file_stamp(beside_weights(shown)) == release.stamp):
            _remove(shown)
        for part in release.parts:
            name, source = names[part] if names else part, self.repository / part
            config, sizes[name] = for_all_versions((source / "config.pbtxt").read_text(), self.instances)
            self.show(source, name, config, release.version)
        if file_stamp(beside_weights(shown)) != release.stamp:
            raise ValueError("its files were written to while they were copied; export the run again")
        return sizes

    def show(self, source: Path, name: str, config: str, version: int | None = None) -> None:
        """Show a model's folder under a name, with this configuration unless it is empty, and with one version or all.

        Raises OSError.
        """
        folder = self.folder / name
        if folder.is_symlink():  # the model belonged to no recommender before
            folder.unlink()
        folder.mkdir(exist_ok=True)
        if config:
            (folder / "config.pbtxt").write_text(config)
        for beside in source.iterdir():
            if beside.name == "config.pbtxt" or beside.name.startswith("."):
                continue
            if beside.name[0].isdigit() and not beside.name.isdecimal():
                continue  # Triton would take a folder such as 2_old for version 2
            wanted = version is None or not beside.name.isdecimal() or beside.name == str(version)
            shown = folder / beside.name
            if not wanted or shown.is_symlink() or shown.is_dir():
                continue
            if version is None or not (beside / "recommender.json").is_file() or not _copy(beside, shown):
                shown.symlink_to(beside)

    def remove(self, name: str) -> None:
        """Remove everything that is shown of a model."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def keep(self, release: Release) -> dict[str, int]:
        """As `place`, and keep the weights even if their folder is deleted, until `unlink`; not where there was no room
        for copies of the files beside them."""
        if self.has_other_weights(release):  # another export of this version was shown
            self.unlink(release)
        sizes = self.place(release)
        copied = not (self.folder / release.name / str(release.version)).is_symlink()
        for part in release.parts if copied else ():
            shown = self.folder / part / str(release.version)
            if shown not in self._held:
                self._held[shown] = os.open(shown / WEIGHTS, os.O_RDONLY | os.O_CLOEXEC)
        return sizes

    def has_other_weights(self, release: Release) -> bool:
        """Whether other weights than those of a version are shown, or none: they were changed in the repository."""
        try:
            for part in release.parts:
                self.mend(part)
            return weights_stamp(self.folder, release.parts, release.version) != release.weights
        except OSError:
            return True

    def unlink(self, release: Release) -> None:
        """Remove a version from what is shown."""
        for part in release.parts:
            shown = self.folder / part / str(release.version)
            if shown in self._held:
                os.close(self._held.pop(shown))
            _remove(shown)

    def versions(self, part: str) -> list[str]:
        """The versions of a recommender's part that are shown."""
        return [path.name for path in (self.folder / part).iterdir() if path.name.isdecimal()]

    def mend(self, part: str) -> None:
        """Let the links of versions whose folders were deleted or renamed while they are loaded point to the weights
        that are held, or to the new name (`ncf rollback`) of a version that is not held, and remove other broken links:
        one would make Triton refuse all versions."""
        for shown in (self.folder / part).iterdir():
            copied = shown.is_dir() and not shown.is_symlink()
            link = shown / WEIGHTS if copied else shown
            if link.is_symlink() and not link.exists():
                if shown in self._held:
                    link.unlink()
                    shown.mkdir(exist_ok=True)
                    (shown / WEIGHTS).symlink_to(f"/proc/{os.getpid()}/fd/{self._held[shown]}")
                elif (withdrawn := self.repository / part / f".withdrawn-{shown.name}").exists():
                    link.unlink()
                    link.symlink_to(withdrawn / WEIGHTS if copied else withdrawn)
                else:
                    _remove(shown)

    def to_load(self) -> list[str]:
        """The models that Triton loads when it starts: all that are shown with at least one version."""
        names = sorted(path.name for path in self.folder.iterdir())
        plain = {name for name in names if (self.folder / name).is_symlink()}
        for name in names:
            if name not in plain:
                self.mend(name)
        return [name for name in names if name in plain or self.versions(name)]

    def as_seen_outside(self, text: str) -> str:
        """A message of Triton's with the repository's path in place of the view's."""
        return text.replace(f"{self.folder}/", f"{self.repository}/")


def _copy(version: Path, shown: Path) -> bool:
    """Show a recommender's version with files of its own; -> False if the file system has too little room for them.

    Raises OSError.
    """
    files = beside_weights(version)
    needed, free = sum(file.stat().st_size for file in files), shutil.disk_usage(shown.parent).free
    if needed > free // 2:  # the other half is for answers and for the next version
        log.warning(
            "%s is served without copies of its ids, which take %.1f MB, and %s has %.1f MB free; do not change its "
            "files while it is served, or set TMPDIR to a folder with more room",
            version, needed / 2**20, shown.parents[1], free / 2**20,
        )  # fmt: skip
        return False
    shown.mkdir()
    for file in files:
        status = file.stat()
        shutil.copyfile(file, shown / file.name)
        os.utime(shown / file.name, ns=(status.st_atime_ns, status.st_mtime_ns))  # the stamp of a copy is the same
    (shown / WEIGHTS).symlink_to(version / WEIGHTS)
    return True


def _remove(shown: Path) -> None:
    """Remove what is shown of a version, if it is there. Behind a link to a whole model are the repository's files."""
    if shown.parent.is_symlink():
        return
    if shown.is_symlink():
        shown.unlink()
    elif shown.is_dir():
        shutil.rmtree(shown)
