"""A real `ncf-deploy local` process, and boto3's clients of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from deploy.local.place import free_port
from tests.deploy.support import IMAGE
from tests.support.eventually import eventually

COMMAND = Path(sys.executable).parent / "ncf-deploy"
STAND_IN = f"{sys.executable} {Path(__file__).with_name('stand_in.py')}"
OURS = IMAGE.replace("ncf-triton:v1", "stand-in:v1")
REGION = "eu-central-1"
NOBODY = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}
# The stand-in as the one container of an endpoint.
FILE = f"""\
name: shop
region: {REGION}
container: {{image: {OURS}}}
instances: {{type: ml.c6i.xlarge, count: 2}}
"""


class Local:
    """Context manager: the process with these files; at the end it gets SIGINT."""

    def __init__(self, *files: Path, images: dict[str, str] | None = None, **environment: str) -> None:
        self.port = free_port()
        folder = files[0].parent
        self.log = folder / f"local-{self.port}.log"
        self.command = [str(COMMAND), "local", "--port", str(self.port)]
        for file in files:
            self.command += ["-f", str(file)]
        for image, command in (images or {"stand-in:v1": STAND_IN}).items():
            self.command += ["--image", f"{image}={command}"]
        (folder / "tmp").mkdir(exist_ok=True)
        # torch sets a variable in the process that it trains in, which would hide what it leaves in TMPDIR.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TORCHINDUCTOR_"))}
        self.environment = {**kept, **NOBODY, "TMPDIR": str(folder / "tmp"), **environment}

    def __enter__(self) -> Local:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        return self

    def __exit__(self, *about: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self.process.communicate()

    def ready(self) -> Local:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return "Ready at" in self.log.read_text()

        eventually(is_ready, 300, self.log.read_text)
        return self

    def stop(self) -> str:
        """The summary."""
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=90)
        assert self.process.returncode == 0, self.log.read_text()
        return str(output)

    def says(self, text: str) -> None:
        eventually(lambda: text in self.log.read_text(), 120, self.log.read_text)

    def client(self, service: str) -> Any:
        return boto3.client(
            service, region_name=REGION, endpoint_url=f"http://127.0.0.1:{self.port}", aws_access_key_id="x",
            aws_secret_access_key="x", config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
        )  # fmt: skip

    @cached_property
    def runtime(self) -> Any:
        return self.client("sagemaker-runtime")

    @cached_property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    def describe(self, name: str = "shop") -> dict[str, Any]:
        return dict(self.sagemaker.describe_endpoint(EndpointName=name))


def ended(
    *files: Path, arguments: tuple[str, ...] = (), images: dict[str, str] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`ncf-deploy local` expected to end by itself."""
    local = Local(*files, images=images, **environment)
    return subprocess.run(
        [*local.command, *arguments], env=local.environment, capture_output=True, text=True, timeout=120, check=False
    )
