"""Many models in one container: loaded when they are asked for, unloaded when memory is short."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.deploy.local.support import FILE, OURS, Local
from tests.deploy.support import model_archive, written

TARGETS = ("food.tar.gz", "fashion.tar.gz", "third.tar.gz")


def many(folder: Path, room: int, more: str = "") -> Path:
    container = f"{{image: {OURS}, models: s3://my-bucket/many/, environment: {{ROOM: {room}}}{more}}}"
    return written(folder, FILE.replace(f"{{image: {OURS}}}", container))


def ask(local: Local, target: str, body: bytes = b"{}") -> None:
    local.runtime.invoke_endpoint(EndpointName="shop", Body=body, TargetModel=target)["Body"].read()


def test_the_model_that_was_not_asked_for_the_longest_makes_room(tmp_path: Path, s3_url: str) -> None:
    with Local(many(tmp_path, room=2), AWS_ENDPOINT_URL=s3_url) as local:
        local.ready()
        for target in ("food.tar.gz", "fashion.tar.gz", "food.tar.gz", "third.tar.gz"):
            ask(local, target)
        (folder,) = (tmp_path / "tmp").glob("ncf-deploy-local-*/*/primary/model")
        assert len([*folder.iterdir()]) == 2  # an archive that is unloaded is deleted
        ask(local, "food.tar.gz")
        assert "3 models loaded, 1 unloaded" in local.stop()


def test_without_a_cache_a_model_is_unloaded_after_its_request(tmp_path: Path, s3_url: str) -> None:
    with Local(many(tmp_path, 1, ", cache_models: false"), AWS_ENDPOINT_URL=s3_url) as local:
        local.ready()
        for target in TARGETS:
            ask(local, target)
        assert "3 models loaded, 3 unloaded" in local.stop()


def test_a_model_that_never_fits_is_an_error_of_the_model(tmp_path: Path, s3_url: str) -> None:
    with Local(many(tmp_path, 0), AWS_ENDPOINT_URL=s3_url) as local:
        local.ready()
        with pytest.raises(ClientError) as raised:
            ask(local, "food.tar.gz")
        assert raised.value.response["OriginalStatusCode"] == 507


def test_a_container_that_was_started_again_gets_its_models_again(tmp_path: Path, s3_url: str) -> None:
    with Local(many(tmp_path, 2), AWS_ENDPOINT_URL=s3_url) as local:
        local.ready()
        ask(local, "food.tar.gz")
        with pytest.raises(ClientError):
            ask(local, "food.tar.gz", b'{"make": {"die": true}}')
        local.says("is healthy again")
        ask(local, "food.tar.gz")


def test_an_archive_that_leads_out_is_refused_to_its_caller(tmp_path: Path, s3_url: str, s3: object) -> None:
    bad = model_archive(tmp_path / "bad.tar.gz", "../../outside", "config.pbtxt")
    s3.upload_file(str(bad), "my-bucket", "many/bad.tar.gz")  # type: ignore[attr-defined]
    with Local(many(tmp_path, 2), AWS_ENDPOINT_URL=s3_url) as local:
        local.ready()
        with pytest.raises(ClientError, match="would be unpacked outside its folder"):
            ask(local, "bad.tar.gz")
        ask(local, "food.tar.gz")
