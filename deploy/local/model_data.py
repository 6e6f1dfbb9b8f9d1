"""Model archives: fetched, checked and unpacked where a container looks for them."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import UserError
from deploy.file import archive
from deploy.local.objects import Objects, writing

OWNER_WRITES = 0o200
EVERYBODY_WRITES = 0o222


@dataclass(frozen=True)
class ModelData:
    """`base` is the folder of the declared file, from which its paths of archives are counted."""

    base: Path
    objects: Objects

    def unpack(self, model: str, to: Path, is_of_triton: bool = True) -> None:
        """An archive, of a path or in S3, into the new folder `to`. Raises UserError or WorldError; it blocks."""
        with writing(to):
            to.mkdir(parents=True)
        with tempfile.NamedTemporaryFile(dir=to.parent, suffix=".tar.gz") as fetched:
            path = self.base / model
            if "://" in model:
                path = Path(fetched.name)
                self.objects.download(model, path)
            try:
                archive.check(path, is_of_triton)
            except UserError as error:
                raise UserError(str(error).replace(str(path), model)) from error
            with writing(to), tarfile.open(path, "r:gz") as packed:
                packed.extractall(to, filter="data")
        for part in [to, *to.rglob("*")]:
            if not part.is_symlink():
                part.chmod(part.stat().st_mode & ~EVERYBODY_WRITES)


def remove(folder: Path) -> None:
    """A folder that this process made, read-only parts of it too."""
    for part in [folder, *folder.rglob("*")]:
        if part.is_dir() and not part.is_symlink():
            part.chmod(part.stat().st_mode | OWNER_WRITES)
    shutil.rmtree(folder, ignore_errors=True)
