"""Archives into S3, under the hash of their content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from deploy.aws.session import Aws, code_of, in_words
from deploy.errors import UserError, WorldError
from deploy.file.endpoint import EndpointFile

# A part that fails is sent again by itself.
TRANSFER = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=4)


def split(uri: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def size_of(aws: Aws, uri: str) -> int | None:
    """The bytes of an object; None if there is none."""
    bucket, key = split(uri)
    try:
        with in_words():
            return int(aws.s3.head_object(Bucket=bucket, Key=key)["ContentLength"])
    except Exception as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and code_of(cause) in ("404", "NoSuchKey", "NotFound"):
            return None
        raise


def require_models(aws: Aws, file: EndpointFile) -> None:
    """Raises UserError if a model that the file names in S3 is not there."""
    for hosted in file.everything_hosted:
        for container in hosted.all_containers:
            if container.model is None or container.local_model:
                continue
            try:
                is_missing = size_of(aws, container.model) is None
            except UserError:  # you may not look at it; the container's role may
                continue
            if is_missing:
                raise UserError(f"model {container.model} does not exist; `aws s3 cp` puts it there")


def upload(aws: Aws, path: Path, uri: str, kms_key: str | None, say: Callable[[str], None]) -> bool:
    """Whether it had to be sent. An object appears when all of its parts have come, so what is there is whole."""
    size = path.stat().st_size
    if size_of(aws, uri) == size:
        say(f"{path.name} is in S3 already: {uri}")
        return False
    bucket, key = split(uri)
    sent = 0
    shown = 0

    def progress(count: int) -> None:
        nonlocal sent, shown
        sent += count
        if sent - shown >= size // 10:
            shown = sent
            say(f"uploading {path.name}: {100 * sent // max(size, 1)} %")

    extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    try:
        with in_words():
            aws.s3.upload_file(str(path), bucket, key, ExtraArgs=extra, Config=TRANSFER, Callback=progress)
    except Boto3Error as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ClientError):
            with in_words():
                raise cause from None
        raise WorldError(f"{path.name} could not be uploaded to {uri}: {error}; apply again") from error
    say(f"uploaded {path.name} to {uri}")
    return True
