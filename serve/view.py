"""The folder that Triton sees in place of the repository: links to the models, and to the versions that are wanted.

Links, because Triton's Python backend takes plain paths only; and because Triton then holds an old and a new version
side by side, and no other, whatever else is in the repository.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from serve.model_config import for_all_versions
from serve.repository import Release


@dataclass(frozen=True)
class View:
    """`folder` shows `repository`, both absolute; nothing outside `folder` is ever written."""

    repository: Path
    folder: Path

    def link(self, name: str) -> None:
        """Show a model that belongs to no recommender as it is."""
        (self.folder / name).symlink_to(self.repository / name)

    def place(self, release: Release) -> dict[str, int]:
        """Show a version of a recommender, with the configuration that is there now; -> max_batch_size of its parts.

        Raises OSError or ValueError.
        """
        sizes = {}
        for part in release.parts:
            folder, source = self.folder / part, self.repository / part
            if folder.is_symlink():  # it belonged to no recommender before
                folder.unlink()
            folder.mkdir(exist_ok=True)
            text, sizes[part] = for_all_versions((source / "config.pbtxt").read_text())
            (folder / "config.pbtxt").write_text(text)
            for beside in source.iterdir():
                other = not re.fullmatch(r"[0-9]+|config\.pbtxt|\..*", beside.name)
                if (other or beside.name == str(release.version)) and not (folder / beside.name).is_symlink():
                    (folder / beside.name).symlink_to(beside)
        return sizes

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
