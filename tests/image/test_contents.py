"""What the images are: their configuration, what is in them, and what is not."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import IO, Any, cast

import pytest

from tests.image.docker import CPU, GPU, docker, inspect, python_in

IMAGES = [CPU, GPU]
AWS = "com.amazonaws.sagemaker.capabilities."
HERE = Path(__file__).parent


@pytest.mark.parametrize("image", IMAGES)
def test_c001_c003_c011_c012_the_configuration(image: str) -> None:
    config: dict[str, Any] = inspect(image)["Config"]
    assert not config.get("Entrypoint")  # nothing between SIGTERM and the verb, and the base's is gone
    assert config["Cmd"] == ["serve"]
    assert not config.get("User")  # SageMaker runs containers as root
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Labels"][f"{AWS}multi-models"] == config["Labels"][f"{AWS}accept-bind-to-port"] == "true"
    assert f"{AWS}bidirectional-streaming" not in config["Labels"]  # C13: only for those who can


def test_both_images_say_the_same() -> None:
    cpu, gpu = (inspect(image)["Config"] for image in IMAGES)
    for field in ("Cmd", "Healthcheck", "StopSignal", "ExposedPorts", "Labels"):
        assert cpu[field] == gpu[field], field


def test_the_bases_own_serve_is_not_run() -> None:
    for serve in ("serve", "/usr/bin/serve"):
        assert "SERVE_MODEL_REPOSITORY" in docker("run", "--rm", "--network=none", GPU, serve, "--help").stdout


def test_the_size_is_that_of_a_small_image() -> None:
    assert inspect(CPU)["Size"] < 1.5e9


def test_c006_c106_what_is_not_in_it() -> None:
    found = python_in(CPU, (HERE / "look_inside.py").read_text())
    assert found["unwanted"] == []
    assert found["setuid"] == []
    assert sorted(found["writable"]) == ["/tmp", "/var/tmp"]
    assert not found["opt_ml"]  # everything there is mounted over
    assert found["driver"] == []  # it is the host's


def test_all_that_the_verbs_import_is_there() -> None:
    """Files were left out of packages, so all of ours are imported, and torch compiles, trains and saves."""
    assert "serve.worker.gunicorn_worker" in python_in(CPU, (HERE / "import_everything.py").read_text())


def test_nothing_of_the_machine_that_built_it_is_in_a_layer(tmp_path: Path) -> None:
    """Every layer is read, so that a file removed by a later one counts, too."""
    docker("save", "-o", tmp_path / "image.tar", CPU)
    marks = machine_marks()
    with tarfile.open(tmp_path / "image.tar") as saved:
        for member in saved:
            if member.isfile():
                content = saved.extractfile(member)
                assert content is not None
                head = content.read(2)
                content.seek(0)
                unpacked = gzip.GzipFile(fileobj=content) if head == b"\x1f\x8b" else content
                assert search(cast(IO[bytes], unpacked), marks) == set(), member.name
    program = "import json, os; print(json.dumps([os.listdir('/'), os.path.exists('/etc/pip.conf')]))"
    root, pip_conf = python_in(CPU, program)
    assert not {"build", "context", "run/secrets"} & set(root)
    assert not pip_conf


def machine_marks() -> set[bytes]:
    """The secret of the build, lines of the certificates that were added to this machine, its checkout's path, and the
    mirror its packages come from."""
    marks = {b"ncf-ci-secret", str(Path.cwd()).encode()}
    for certificate in Path("/usr/local/share/ca-certificates").glob("*.crt"):
        marks.update(certificate.read_bytes().splitlines()[5:6])
    mirror = subprocess.run(
        "grep -rhoE 'https?://[^ ]+' /etc/apt/sources.list /etc/apt/sources.list.d/*.sources", shell=True,
        capture_output=True, check=False,
    ).stdout.splitlines()  # fmt: skip
    marks |= {host for line in mirror if not (host := line.split(b"/")[2]).endswith((b"debian.org", b"ubuntu.com"))}
    return {mark for mark in marks if len(mark) > 5}


def search(stream: IO[bytes], marks: set[bytes]) -> set[bytes]:
    found, tail = set(), b""
    while block := stream.read(2**24):
        block = tail + block
        found |= {mark for mark in marks if mark in block}
        tail = block[-max(map(len, marks)) :]
    return found


def test_marks_are_found_where_they_are() -> None:
    content = os.urandom(2**24 - 3) + b"certificate" + os.urandom(100)
    assert search(io.BytesIO(content), {b"certificate", b"another"}) == {b"certificate"}
