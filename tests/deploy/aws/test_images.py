"""An image is looked at in ECR before a stack is made: labels, processor, CUDA."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.aws import images
from deploy.aws.images import BIND_TO_PORT, MULTI_MODEL
from deploy.aws.session import Aws
from deploy.errors import UserError
from tests.deploy.support import IMAGE, SINGLE, check, stubbed

MANY = SINGLE.replace("model: s3://my-bucket/models/food.tar.gz", "models: s3://my-bucket/many/")
DIRECT = SINGLE.replace("container:\n", "containers:\n- name: a\n").replace(
    "instances", f"- {{name: b, image: {IMAGE}}}\ninvocation: serial\ninstances"
)
DIGEST = "sha256:" + "0" * 64


class Layer(BaseHTTPRequestHandler):
    """ECR's download of an image's configuration."""

    config: bytes = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.config)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def layer() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Layer)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def ecr_with(aws: Aws, url: str, config: dict[str, Any]) -> None:
    Layer.config = json.dumps(config).encode()
    manifest = {"config": {"digest": DIGEST}}
    stub = stubbed(aws, "ecr")
    stub.add_response("batch_get_image", {"images": [{"imageManifest": json.dumps(manifest)}]})
    stub.add_response("get_download_url_for_layer", {"downloadUrl": url, "layerDigest": DIGEST})


@pytest.mark.parametrize(
    ("text", "config", "expected"),
    [
        (SINGLE, {"architecture": "arm64"}, "is for arm64; build it for linux/amd64"),
        (MANY, {"config": {"Labels": {BIND_TO_PORT: "true"}}}, f"lacks the label {MULTI_MODEL}"),
        (DIRECT, {"config": {"Labels": {MULTI_MODEL: "true"}}}, f"lacks the label {BIND_TO_PORT}=true"),
        (
            SINGLE.replace("ml.c6i", "ml.g5").replace("  model:", "  cuda: 12.2\n  model:"),
            {"config": {"Env": ["CUDA_VERSION=13.0.2.006"]}},
            "has CUDA 13.0.2.006, and the driver of al2-ami-sagemaker-inference-gpu-2 is too old",
        ),
    ],
)  # fmt: skip
def test_an_unfit_image_is_refused(
    text: str, config: dict[str, Any], expected: str, aws: Aws, layer: str, tmp_path: Path
) -> None:
    file = check(tmp_path, text).file
    ecr_with(aws, layer, config)
    with pytest.raises(UserError) as caught:
        images.check(aws, file)
    assert expected in str(caught.value)
    assert "https://docs.aws.amazon.com/" in str(caught.value)


def test_a_fit_image_is_taken(aws: Aws, layer: str, tmp_path: Path) -> None:
    labels = {MULTI_MODEL: "true", BIND_TO_PORT: "true"}
    for text in (SINGLE, MANY, DIRECT):
        ecr_with(aws, layer, {"architecture": "amd64", "config": {"Labels": labels, "Env": ["PATH=/bin"]}})
        images.check(aws, check(tmp_path, text).file)


def test_an_image_that_is_not_there(aws: Aws, tmp_path: Path) -> None:
    file = check(tmp_path, SINGLE).file
    with pytest.raises(UserError, match="there is no repository ncf-triton; push it first"):
        images.check(aws, file)
    stubbed(aws, "ecr").add_response("batch_get_image", {"images": [], "failures": []})
    with pytest.raises(UserError, match="the repository has no image with the tag v1"):
        images.check(aws, file)
    index = {"manifests": []}
    stubbed(aws, "ecr").add_response("batch_get_image", {"images": [{"imageManifest": json.dumps(index)}]})
    with pytest.raises(UserError, match="an index of several images, which SageMaker refuses"):
        images.check(aws, file)


def test_an_image_in_another_region(aws: Aws, tmp_path: Path) -> None:
    file = check(tmp_path, SINGLE.replace("region: eu-central-1\n", "").replace("eu-central-1", "us-east-1")).file
    with pytest.raises(UserError, match="is in us-east-1, and you deploy to eu-central-1; push it to eu-central-1 too"):
        images.check(aws, file)
