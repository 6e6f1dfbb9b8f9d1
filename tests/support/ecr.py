"""An account with ECR for tests: moto's server in AWS' place, a clone of the project, and the aws command.

What moto leaves out: it holds no layers, so an image is in it once somebody has put its manifest there; it does not
scan on push, so the script asks for a scan, as it does where a repository does not; and a scan says what the test said.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3

from tests.support.eventually import eventually
from tests.support.serving import free_port

ROOT, BIN = Path(__file__).parents[2], Path(sys.executable).parent
REGION = "eu-central-1"
REGISTRY = f"123456789012.dkr.ecr.{REGION}.amazonaws.com"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@contextmanager
def aws_forks(path: Path) -> Iterator[None]:
    """A process behind a socket that runs calls of `aws`."""
    command = [sys.executable, "-m", "tests.support.aws_forks", str(path)]
    with subprocess.Popen(command, cwd=ROOT) as server:
        try:
            eventually(lambda: path.exists() or server.poll() is not None)
            yield
        finally:
            server.terminate()


@contextmanager
def moto() -> Iterator[str]:
    """The address of a server that plays AWS."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(f"{url}/moto-api/data.json", server)
            yield url
        finally:
            server.terminate()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until a server that was started answers."""

    def answers() -> bool:
        assert server.poll() is None, f"the server for {url} has ended"
        with suppress(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=5).close()
            return True
        return False

    eventually(answers)


class Clone:
    """A clone of the project without changes, an account without a repository, and a docker command."""

    def __init__(self, folder: Path, aws: str, docker: str) -> None:
        self.folder, self.aws = folder / "a clone", aws
        self.post("reset")
        (self.folder / "scripts").mkdir(parents=True)
        for name in ("push_to_ecr.sh", "common.sh", "ecr_lifecycle.json"):
            shutil.copy(ROOT / "scripts" / name, self.folder / "scripts")
        (folder / "bin").mkdir()
        (folder / "bin" / "docker").write_text(docker)
        (folder / "bin" / "docker").chmod(0o755)
        self.environment = {
            "PATH": f"{folder / 'bin'}:{BIN}:{os.environ['PATH']}",
            "HOME": str(folder),
            "AWS_ENDPOINT_URL": aws,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": "us-east-1",  # AWS_REGION comes first
        }
        self.git("init", "--quiet")
        self.commit_all()

    def commit_all(self) -> None:
        self.git("add", ".")
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=all")
        self.commit = self.git("rev-parse", "HEAD")

    def git(self, *words: str) -> str:
        ended = subprocess.run(
            ["git", *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True
        )
        return ended.stdout.strip()

    def push(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script, from somewhere else."""
        return subprocess.run(
            [str(self.folder / "scripts" / "push_to_ecr.sh"), *words],
            cwd=self.folder.parent,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def ecr(self, call: str, **parameters: Any) -> Any:
        """What ECR answers."""
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        client = boto3.client("ecr", region_name=REGION, endpoint_url=self.aws, **keys)
        try:
            return getattr(client, call)(**parameters)
        finally:
            client.close()

    def scan(self, status: str, *findings: tuple[str, str]) -> None:
        """What the scan of the next image says: severities and names. Without this moto says HIGH, CVE-9999-9999."""
        listed = [{"severity": severity, "name": name, "uri": f"https://cve/{name}"} for severity, name in findings]
        result = {
            "registryId": "123456789012",
            "repositoryName": "ncf-triton",
            "imageId": {},
            "imageScanStatus": {"status": status, "description": "as ECR says"},
            "imageScanFindings": {"findings": listed},
        }
        self.post("static/ecr/scan-finding-results", {"results": [result], "region": REGION})

    def post(self, path: str, document: Any = None) -> None:
        """To moto itself."""
        body, headers = json.dumps(document).encode(), {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{self.aws}/moto-api/{path}", body, headers), timeout=10).close()
