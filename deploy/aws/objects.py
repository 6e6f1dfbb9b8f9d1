"""Objects in S3, as boto3 finds it: AWS_ENDPOINT_URL leads to an emulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, code_of, in_words
from deploy.aws.uploads import split
from deploy.errors import DeployError, UserError, WorldError

NOT_THERE = ("404", "NoSuchKey", "NoSuchBucket")


class Missing(UserError):
    """There is no object of this name."""


class Objects:
    """S3 is not asked before the first call. All methods block, and raise DeployError."""

    def __init__(self, region: str) -> None:
        self._region = region

    @cached_property
    def _s3(self) -> Any:
        return Aws(self._region).s3

    def download(self, uri: str, to: Path) -> None:
        bucket, key = split(uri)
        with _found(uri), writing(to):
            self._s3.download_file(bucket, key, str(to))

    def get(self, uri: str) -> bytes:
        bucket, key = split(uri)
        with _found(uri):
            return bytes(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def put(self, uri: str, content: bytes, content_type: str) -> None:
        bucket, key = split(uri)
        with in_words():
            self._s3.put_object(Bucket=bucket, Key=key, Body=content, ContentType=content_type)

    def upload(self, uri: str, file: Path) -> None:
        bucket, key = split(uri)
        with in_words():
            self._s3.upload_file(str(file), bucket, key)

    def download_all(self, prefix: str, folder: Path) -> int:
        """Download every object under a prefix into a new folder; returns how many there are."""
        folder.mkdir()
        count = 0
        for uri in self.listed(prefix):
            below = uri.removeprefix(prefix if prefix.endswith("/") else prefix.rpartition("/")[0]).lstrip("/")
            target = folder / below
            if uri.endswith("/") or ".." in target.parts:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            self.download(uri, target)
            count += 1
        return count

    def upload_all(self, prefix: str, folder: Path) -> None:
        """Upload every file below a folder, under a prefix."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.upload(f"{prefix}/{file.relative_to(folder).as_posix()}", file)

    def listed(self, prefix: str) -> Iterator[str]:
        """The URIs of all objects that begin so, in order."""
        bucket, key = split(prefix)
        with in_words():
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                yield from (f"s3://{bucket}/{found['Key']}" for found in page.get("Contents", []))


@contextmanager
def _found(uri: str) -> Iterator[None]:
    try:
        with in_words():
            yield
    except DeployError as error:
        if isinstance(error.__cause__, ClientError) and code_of(error.__cause__) in NOT_THERE:
            raise Missing(f"{uri} does not exist; `aws s3 cp` puts it there") from error
        raise


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
