"""Model archives, in S3 or beside the declared file, unpacked for a container."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deploy.aws.objects import Objects, writing
from deploy.errors import UserError
from deploy.file import archive


class Storage(Objects):
    """S3, and the folder `base` of the declared file."""

    def __init__(self, region: str, base: Path) -> None:
        super().__init__(region)
        self._base = base

    def unpack(self, model: str, to: Path, is_of_triton: bool = True) -> None:
        """An archive into the new folder `to`, which nobody may write then. Raises DeployError."""
        with writing(to):
            to.mkdir(parents=True)
        with tempfile.NamedTemporaryFile(dir=to.parent, suffix=".tar.gz") as fetched:
            path = self._base / model
            if "://" in model:
                path = Path(fetched.name)
                self.download(model, path)
            try:
                archive.check(path, is_of_triton)
            except UserError as error:
                raise UserError(str(error).replace(str(path), model)) from error
            with writing(to):
                archive.unpack(path, to)
