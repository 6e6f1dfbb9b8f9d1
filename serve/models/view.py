"""The folder that Triton sees in place of the repository: links to the models, and to the versions that are wanted.

Links, because Triton's Python backend takes plain paths only; and because Triton then holds an old and a new version
side by side, and no other, whatever else is in the repository.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve.models.repository import Release
from serve.triton.model_config import for_all_versions


@dataclass(frozen=True)
class View:
    """`folder` shows `repository`, both absolute; nothing outside `folder` is ever written."""

    repository: Path
    folder: Path

    def link(self, name: str) -> None:
        """Show a model that belongs to no recommender as it is."""
        (self.folder / name).symlink_to(self.repository / name)

    def place(self, release: Release, names: Mapping[str, str] | None = None) -> dict[str, int]:
        """Show a version of a recommender, with the configuration that is there now; -> max_batch_size of its parts.

        `names` has other names for the parts. Raises OSError or ValueError.
        """
        sizes = {}
        for part in release.parts:
            name, source = names[part] if names else part, self.repository / part
            config, sizes[name] = for_all_versions((source / "config.pbtxt").read_text())
            self.show(source, name, config, release.version)
        return sizes

    def show(self, source: Path, name: str, config: str, version: int | None = None) -> None:
        """Show a model's folder under a name, with a configuration unless it is empty, and with all versions or one.

        Raises OSError.
        """
        folder = self.folder / name
        if folder.is_symlink():  # it belonged to no recommender before
            folder.unlink()
        folder.mkdir(exist_ok=True)
        if config:
            (folder / "config.pbtxt").write_text(config)
        for beside in source.iterdir():
            if beside.name == "config.pbtxt" or beside.name.startswith("."):
                continue
            wanted = version is None or not beside.name.isdecimal() or beside.name == str(version)
            if wanted and not (folder / beside.name).is_symlink():
                (folder / beside.name).symlink_to(beside)

    def remove(self, name: str) -> None:
        """Show a model no longer, whatever there is of it."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def unlink(self, release: Release) -> None:
        """Show a version no longer."""
        for part in release.parts:
            link = self.folder / part / str(release.version)
            if not (self.folder / part).is_symlink() and link.is_symlink():
                link.unlink()

    def versions(self, part: str) -> list[str]:
        """The versions of a recommender's part that are shown."""
        return [path.name for path in (self.folder / part).iterdir() if path.name.isdecimal()]

    def mend(self, part: str) -> None:
        """Links to versions that were withdrawn while they are loaded follow them to their new names; one link that
        leads nowhere would make Triton refuse all versions."""
        for link in (self.folder / part).iterdir():
            if link.is_symlink() and not link.exists():
                withdrawn = self.repository / part / f".withdrawn-{link.name}"
                link.unlink()
                if withdrawn.exists():
                    link.symlink_to(withdrawn)

    def to_load(self) -> list[str]:
        """What Triton shall load when it starts: every model that is shown with a version."""
        names = sorted(path.name for path in self.folder.iterdir())
        plain = {name for name in names if (self.folder / name).is_symlink()}
        for name in names:
            if name not in plain:
                self.mend(name)
        return [name for name in names if name in plain or self.versions(name)]

    def as_seen_outside(self, text: str) -> str:
        """A message of Triton's, with the repository's path in place of the folder's."""
        return text.replace(f"{self.folder}/", f"{self.repository}/")
