"""The archives of a multi-model endpoint: objects under its prefix. The endpoint itself is not touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deploy.aws.session import Aws, in_words
from deploy.aws.uploads import size_of, split, upload
from deploy.errors import UserError
from deploy.file import archive


class Archive(NamedTuple):
    name: str  # what a caller gives as the target model
    size: int
    changed: str


def add(
    aws: Aws, prefix: str, path: Path, name: str, replace: bool, kms_key: str | None, say: Callable[[str], None]
) -> None:
    """Upload an archive under a name. Raises UserError if it cannot be served, or the name is taken."""
    if not name.endswith(".tar.gz") or name.startswith("/") or ".." in name:
        raise UserError(f"{name} is no name of an archive; it ends with .tar.gz")
    archive.check(path, is_of_triton=False)  # of one of many, the model may lie at the top
    uri = prefix + name
    if size_of(aws, uri) is not None and not replace:
        raise UserError(
            f"{uri} is there already, and instances that have loaded it would go on with the old one; "
            "give another name, such as food-v2.tar.gz, or --replace if no instance has loaded it"
        )
    if replace and size_of(aws, uri) is not None:
        remove(aws, prefix, name)
    upload(aws, path, uri, kms_key, say)


def remove(aws: Aws, prefix: str, name: str) -> None:
    """Delete an archive. Raises UserError, with what is there, if there is none of that name."""
    if size_of(aws, prefix + name) is None:
        names = ", ".join(one.name for one in listed(aws, prefix)) or "nothing"
        raise UserError(f"{prefix}{name} does not exist; there is {names}")
    bucket, key = split(prefix + name)
    with in_words():
        aws.s3.delete_object(Bucket=bucket, Key=key)


def listed(aws: Aws, prefix: str) -> list[Archive]:
    bucket, start = split(prefix)
    with in_words():
        pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start)
        objects = [one for page in pages for one in page.get("Contents", [])]
    return [
        Archive(one["Key"].removeprefix(start), one["Size"], one["LastModified"].strftime("%Y-%m-%d %H:%M"))
        for one in objects
        if not one["Key"].endswith("/")
    ]
