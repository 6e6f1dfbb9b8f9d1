"""S3 by moto's server, with an archive of a small recommender under every key that the examples name."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.deploy.local.support import REGION

ROOT = Path(__file__).parents[3]
ARCHIVES = ("models/food.tar.gz", "models/food-1.tar.gz", "models/food-2.tar.gz", "models/fashion.tar.gz",
            "many/food.tar.gz", "many/fashion.tar.gz", "many/third.tar.gz")  # fmt: skip


@pytest.fixture(scope="session")
def archive(one_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "food.tar.gz"
    subprocess.run([ROOT / "scripts" / "package_model.sh", one_model, "-o", path], check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def s3_url(archive: Path) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = s3_client(url)
    client.create_bucket(Bucket="my-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    for key in ARCHIVES:
        client.upload_file(str(archive), "my-bucket", key)
    yield url
    server.stop()


@pytest.fixture
def s3(s3_url: str) -> Any:
    return s3_client(s3_url)


def s3_client(url: str) -> Any:
    return boto3.client(
        "s3", region_name=REGION, endpoint_url=url, aws_access_key_id="testing", aws_secret_access_key="testing"
    )
