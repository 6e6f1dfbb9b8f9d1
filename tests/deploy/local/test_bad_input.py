"""What a user or the machine can do wrong: one sentence with the remedy, 2 for the user's, 1 for the world's."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.local.support import FILE, OURS, ended
from tests.deploy.support import model_archive, written

MODEL = FILE.replace(f"image: {OURS}", f"image: {OURS}, model: {{}}").replace("stand-in", "ncf-triton")
HERE = "uploads: s3://my-bucket/ncf\n"


def fails(code: int, words: str, *files: Path, arguments: tuple[str, ...] = (), **environment: str) -> None:
    done = ended(*files, arguments=arguments, **environment)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert [*(files[0].parent / "tmp").iterdir()] == []


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        fails(2, f"port {port} is taken", written(tmp_path, FILE), arguments=("--port", port))


def test_two_files_that_name_one_endpoint(tmp_path: Path) -> None:
    files = [written(tmp_path, FILE, name) for name in ("one.yaml", "two.yaml")]
    fails(2, "both name the endpoint shop; rename one", *files)


def test_a_model_that_is_not_there(tmp_path: Path, s3_url: str) -> None:
    fails(2, "is no readable .tar.gz: No such file", written(tmp_path, HERE + MODEL.replace("{}", "none.tar.gz")))
    there = written(tmp_path, MODEL.replace("{}", "s3://my-bucket/none.tar.gz"))
    fails(2, "s3://my-bucket/none.tar.gz does not exist", there, AWS_ENDPOINT_URL=s3_url)


def test_an_archive_that_leads_out_of_its_folder(tmp_path: Path, s3_url: str, s3: Any) -> None:
    bad = model_archive(tmp_path / "bad.tar.gz", "food/config.pbtxt", "../outside")
    fails(2, "unpacked outside its folder", written(tmp_path, HERE + MODEL.replace("{}", "bad.tar.gz")))
    s3.upload_file(str(bad), "my-bucket", "bad.tar.gz")
    there = written(tmp_path, MODEL.replace("{}", "s3://my-bucket/bad.tar.gz"))
    fails(2, "s3://my-bucket/bad.tar.gz would be unpacked outside", there, AWS_ENDPOINT_URL=s3_url)


def test_an_emulator_that_is_not_there(tmp_path: Path) -> None:
    file = written(tmp_path, MODEL.replace("{}", "s3://my-bucket/any.tar.gz"))
    fails(1, "AWS does not answer", file, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1")


def test_a_container_that_never_gets_healthy(tmp_path: Path) -> None:
    path = written(tmp_path, FILE.replace(f"{OURS}}}", f"{OURS}, environment: {{ENDS: 1}}}}"))
    fails(1, "ended with code 1, before it was healthy; its log ends:\n    this container ends at once", path)


@pytest.mark.e2e
def test_a_model_that_triton_refuses_is_named_by_the_log(tmp_path: Path) -> None:
    model_archive(tmp_path / "empty.tar.gz")
    fails(1, "before it was healthy", written(tmp_path, HERE + MODEL.replace("{}", "empty.tar.gz")))


def test_an_image_that_is_no_image_of_ours(tmp_path: Path) -> None:
    file = written(tmp_path, FILE.replace("stand-in", "my-preparation"))
    fails(2, "add --image my-preparation:v1='COMMAND'", file)
    fails(2, "--image is x; it is IMAGE=COMMAND", file, arguments=("--image", "x"))


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    images = ("--image", "stand-in:v1=no-such-program --port 1")
    fails(2, "there is no program no-such-program", written(tmp_path, FILE), arguments=images)


def test_a_secret_that_this_shell_does_not_have(tmp_path: Path) -> None:
    text = FILE.replace(f"{OURS}}}", f"{OURS}, environment: {{MY_KEY: {{secret: shop/key}}}}}}")
    fails(2, "MY_KEY is in Secrets Manager, which is not asked here; export MY_KEY=…", written(tmp_path, text))


def test_docker_that_is_not_there(tmp_path: Path) -> None:
    words = "there is no program docker; install Docker, or leave out --docker"
    fails(2, words, written(tmp_path, FILE), arguments=("--docker",), PATH="/nowhere")
