"""S3 as boto3 finds it (AWS_ENDPOINT_URL leads to an emulator), and model archives unpacked for a container."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, code_of, in_words
from deploy.aws.uploads import split
from deploy.errors import UserError, WorldError
from deploy.file import archive

NOT_THERE = ("404", "NoSuchKey", "NoSuchBucket")
OWNER_WRITES, ANYBODY_WRITES = 0o200, 0o222


class Missing(UserError):
    """There is no object of this name."""


class Storage:
    """Objects in S3, and archives that are there or beside the declared file, in `base`. All methods block."""

    def __init__(self, region: str, base: Path) -> None:
        self._region, self._base = region, base

    @cached_property
    def _s3(self) -> Any:
        return Aws(self._region).s3

    def download(self, uri: str, to: Path) -> None:
        """Raises Missing, or DeployError."""
        bucket, key = split(uri)
        try:
            with in_words(), writing(to):
                self._s3.download_file(bucket, key, str(to))
        except Exception as error:
            if isinstance(error.__cause__, ClientError) and code_of(error.__cause__) in NOT_THERE:
                raise Missing(f"{uri} does not exist; `aws s3 cp` puts it there") from error
            raise

    def put(self, uri: str, content: bytes, content_type: str) -> None:
        bucket, key = split(uri)
        with in_words():
            self._s3.put_object(Bucket=bucket, Key=key, Body=content, ContentType=content_type)

    def upload(self, uri: str, file: Path) -> None:
        bucket, key = split(uri)
        with in_words():
            self._s3.upload_file(str(file), bucket, key)

    def listed(self, prefix: str) -> Iterator[str]:
        """The URIs of all objects that begin so, in order."""
        bucket, key = split(prefix)
        with in_words():
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                yield from (f"s3://{bucket}/{found['Key']}" for found in page.get("Contents", []))

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
            with writing(to), tarfile.open(path, "r:gz") as packed:
                packed.extractall(to, filter="data")
        for part in [to, *to.rglob("*")]:
            if not part.is_symlink():
                part.chmod(part.stat().st_mode & ~ANYBODY_WRITES)


def remove(folder: Path) -> None:
    """A folder that this process made, with the parts that nobody may write; none is fine."""
    for part in [folder, *folder.rglob("*")] if folder.exists() else ():
        if part.is_dir() and not part.is_symlink():
            part.chmod(part.stat().st_mode | OWNER_WRITES)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk that is full, or a folder that may not be written, in words."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise WorldError(
            f"{path} cannot be written: {reason}; free space there, or set TMPDIR to another disk"
        ) from error
