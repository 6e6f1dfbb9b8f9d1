"""S3, or a folder in its place: a folder in it for each bucket."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, code_of, in_words
from deploy.aws.uploads import split
from deploy.errors import UserError, WorldError, brief


class Missing(UserError):
    """There is no object of this name."""


class Objects(Protocol):
    """Blocking; the rehearsal calls it in threads."""

    def download(self, uri: str, to: Path) -> None: ...

    def upload(self, file: Path, uri: str, content_type: str) -> None: ...

    def listed(self, prefix: str) -> Iterator[str]:
        """The URIs of all objects that begin so, in order."""
        ...


class S3:
    """S3 as boto3 finds it: AWS_ENDPOINT_URL leads to an emulator."""

    def __init__(self, region: str | None) -> None:
        self._s3 = Aws(region).s3

    def download(self, uri: str, to: Path) -> None:
        bucket, key = split(uri)
        try:
            with in_words(), writing(to):
                self._s3.download_file(bucket, key, str(to))
        except Exception as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and code_of(cause) in ("404", "NoSuchKey", "NoSuchBucket"):
                raise Missing(f"{uri} does not exist; `aws s3 cp` puts it there") from error
            raise

    def upload(self, file: Path, uri: str, content_type: str) -> None:
        bucket, key = split(uri)
        with in_words():
            self._s3.upload_file(str(file), bucket, key, ExtraArgs={"ContentType": content_type})

    def listed(self, prefix: str) -> Iterator[str]:
        bucket, key = split(prefix)
        with in_words():
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                for found in page.get("Contents", []):
                    yield f"s3://{bucket}/{found['Key']}"


class Folder:
    """`s3://bucket/key` is the file `bucket/key` in it; types of content are not kept."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"--s3 {root} is no folder; make it, with a folder in it for each bucket of the file")
        self._root = root.resolve()

    def _path(self, uri: str) -> Path:
        path = Path(os.path.normpath(self._root.joinpath(*split(uri))))
        if not path.is_relative_to(self._root):
            raise UserError(f"{brief(uri)} leads out of --s3 {self._root}; write it without `..`")
        return path

    def download(self, uri: str, to: Path) -> None:
        path = self._path(uri)
        if not path.is_file():
            raise Missing(f"{uri} does not exist: there is no file {path}; put it there")
        with writing(to):
            shutil.copyfile(path, to)

    def upload(self, file: Path, uri: str, content_type: str) -> None:
        path = self._path(uri)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")  # others see a file when it is whole
            shutil.copyfile(file, part)
            part.replace(path)

    def listed(self, prefix: str) -> Iterator[str]:
        base = self._path(prefix.rpartition("/")[0] + "/")
        found = (f"s3://{path.relative_to(self._root).as_posix()}" for path in base.rglob("*") if path.is_file())
        yield from sorted(uri for uri in found if uri.startswith(prefix))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk that is full, or a folder that may not be written, in words."""
    try:
        yield
    except OSError as error:
        raise WorldError(
            f"{path} cannot be written: {error.strerror or error}; free space there, or set TMPDIR to another disk"
        ) from error
