"""`scripts/push_to_ecr.sh` pushes the image by the real engine into a real registry, in the form SageMaker takes.

The registry is Debian's `docker-registry`, on this machine. The rest of ECR is moto, which learns from the registry of
what was pushed: in AWS both are one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.docker import CPU, docker
from tests.support.ecr import DOCKER_MANIFEST, REGISTRY, Clone, moto, wait_for
from tests.support.serving import free_port

PROGRAM = shutil.which("docker-registry") or shutil.which("registry")

# The real docker; after its push ECR has what the registry has.
DOCKER = f"""#!{sys.executable}
import json, subprocess, sys, urllib.request
words = sys.argv[1:]
code = subprocess.run(["{shutil.which("docker")}", *words]).returncode
name = words[-1] if words[0] == "push" else next((w.split(",")[1][5:] for w in words if "push=true" in w), None)
if name and code == 0:
    import boto3
    host, path = name.split("/", 1)
    path, tag = path.rsplit(":", 1)
    kinds = "{DOCKER_MANIFEST}, application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
    request = urllib.request.Request(f"http://{{host}}/v2/{{path}}/manifests/{{tag}}", headers={{"Accept": kinds}})
    with urllib.request.urlopen(request) as answer:
        boto3.client("ecr").put_image(
            repositoryName=path, imageTag=tag, imageManifest=answer.read().decode(),
            imageManifestMediaType=answer.headers["Content-Type"], imageDigest=answer.headers["Docker-Content-Digest"])
sys.exit(code)
"""
CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry's host and port; the engine speaks plain HTTP to the loopback interface."""
    if PROGRAM is None:
        pytest.skip("no registry to push into; on Debian or Ubuntu: apt-get install docker-registry")
    port = free_port()
    (tmp_path / "registry.yml").write_text(CONFIG.format(folder=json.dumps(str(tmp_path / "registry")), port=port))
    command = [PROGRAM, "serve", str(tmp_path / "registry.yml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/v2/", server)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture
def clone(tmp_path: Path, registry: str) -> Iterator[Clone]:
    with moto() as aws:
        clone = Clone(tmp_path, aws, DOCKER)
        clone.scan("COMPLETE")
        clone.environment |= {"ECR_REGISTRY": registry}
        clone.environment |= {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
        yield clone


def pushed(registry: str, what: str, kind: str) -> bytes:
    """A document that the registry has; it must have it as `kind`."""
    request = urllib.request.Request(f"http://{registry}/v2/ncf-triton/{what}", headers={"Accept": kind})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Type"] == kind
        body: bytes = answer.read()
    return body


def test_the_image_is_pushed_as_dockers_schema_2(clone: Clone, registry: str) -> None:
    try:
        ended = clone.push("--image", CPU, "--tag", "tested")
    finally:
        docker("image", "rm", f"{registry}/ncf-triton:tested", check=False)
    assert ended.returncode == 0, ended.stderr
    manifest = pushed(registry, "manifests/tested", DOCKER_MANIFEST)
    described = json.loads(manifest)
    assert (described["schemaVersion"], described["mediaType"]) == (2, DOCKER_MANIFEST)
    assert {layer["mediaType"] for layer in described["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }
    assert described["config"]["digest"] == docker("image", "inspect", "--format", "{{.Id}}", CPU).stdout.strip()
    assert ended.stdout == f"{REGISTRY}/ncf-triton@sha256:{hashlib.sha256(manifest).hexdigest()}\n"


def test_what_is_built_is_the_target_at_the_commit(clone: Clone, registry: str) -> None:
    """The same, with a build before it, by buildx where it is there; an image of one file, so that it takes no time."""
    (clone.folder / "Dockerfile").write_text("FROM scratch AS cpu\nCOPY Dockerfile /\nFROM cpu AS gpu\nENV GPU=1\n")
    clone.commit_all()
    name = f"{registry}/ncf-triton:{clone.commit[:12]}-gpu"
    try:
        ended = clone.push("--target", "gpu")
    finally:
        docker("image", "rm", name, check=False)
    assert ended.returncode == 0, ended.stderr
    manifest = pushed(registry, f"manifests/{clone.commit[:12]}-gpu", DOCKER_MANIFEST)
    digest = json.loads(manifest)["config"]["digest"]
    config = json.loads(pushed(registry, f"blobs/{digest}", "application/octet-stream"))
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert "GPU=1" in config["config"]["Env"]
    assert config["config"]["Labels"] == {"org.opencontainers.image.revision": clone.commit}
    assert ended.stdout == f"{REGISTRY}/ncf-triton@sha256:{hashlib.sha256(manifest).hexdigest()}\n"
