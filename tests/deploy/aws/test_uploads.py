"""Archives in S3: sent in parts, and not again if they are there; those of a multi-model endpoint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.aws import archives
from deploy.aws.session import Aws
from deploy.aws.uploads import TRANSFER, require_models, size_of, upload
from deploy.errors import UserError
from tests.deploy.support import SINGLE, check, model_archive, stubbed

PREFIX = "s3://my-bucket/many/"


def quiet(text: str) -> None:
    """Say nothing."""


def test_a_large_archive_goes_in_parts_and_once(aws: Aws, tmp_path: Path) -> None:
    path = tmp_path / "big.tar.gz"
    path.write_bytes(os.urandom(TRANSFER.multipart_threshold + 1000))
    said: list[str] = []
    assert upload(aws, path, "s3://my-bucket/ncf/big.tar.gz", None, said.append)
    found = aws.s3.head_object(Bucket="my-bucket", Key="ncf/big.tar.gz")
    assert found["ContentLength"] == path.stat().st_size
    assert found["ETag"].strip('"').endswith("-2")  # of two parts
    assert any("%" in line for line in said)
    assert not upload(aws, path, "s3://my-bucket/ncf/big.tar.gz", None, said.append)
    assert said[-1] == "big.tar.gz is in S3 already: s3://my-bucket/ncf/big.tar.gz"


def test_a_bucket_that_does_not_exist_is_named(aws: Aws, tmp_path: Path) -> None:
    path = model_archive(tmp_path / "food.tar.gz")
    with pytest.raises(UserError, match=r"the bucket .* does not exist"):
        upload(aws, path, "s3://no-such-bucket/food.tar.gz", None, quiet)


def test_archives_of_a_multi_model_endpoint_come_and_go(aws: Aws, tmp_path: Path) -> None:
    food = model_archive(tmp_path / "food.tar.gz")
    archives.add(aws, PREFIX, food, "food.tar.gz", False, None, quiet)
    archives.add(aws, PREFIX, model_archive(tmp_path / "b.tar.gz", "config.pbtxt"), "b.tar.gz", False, None, quiet)
    assert [one.name for one in archives.listed(aws, PREFIX)] == ["b.tar.gz", "food.tar.gz"]
    with pytest.raises(UserError, match=r"would go on with the old one; give another name, such as food-v2\.tar\.gz"):
        archives.add(aws, PREFIX, food, "food.tar.gz", False, None, quiet)
    archives.add(aws, PREFIX, food, "food.tar.gz", True, None, quiet)
    archives.remove(aws, PREFIX, "b.tar.gz")
    assert size_of(aws, PREFIX + "b.tar.gz") is None
    with pytest.raises(UserError, match=r"b\.tar\.gz does not exist; there is food\.tar\.gz"):
        archives.remove(aws, PREFIX, "b.tar.gz")
    with pytest.raises(UserError, match=r"it ends with \.tar\.gz"):
        archives.add(aws, PREFIX, food, "food.zip", False, None, quiet)
    with pytest.raises(UserError, match="outside its folder"):
        archives.add(aws, PREFIX, model_archive(tmp_path / "x.tar.gz", "../x"), "x.tar.gz", False, None, quiet)


def test_a_model_that_is_not_in_s3_is_named(aws: Aws, tmp_path: Path) -> None:
    file = check(tmp_path, SINGLE).file
    with pytest.raises(UserError, match=r"model s3://my-bucket/models/food\.tar\.gz does not exist"):
        require_models(aws, file)
    aws.s3.put_object(Bucket="my-bucket", Key="models/food.tar.gz", Body=b"x")
    require_models(aws, file)
    stubbed(aws, "s3").add_client_error("head_object", "403", "Forbidden", 403)
    require_models(aws, file)
