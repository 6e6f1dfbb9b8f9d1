"""The scripts a person runs, one after another, with the real engine and image: train, package, serve, many models."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ncf.data.sample import CATALOGUES, generate
from tests.image.docker import CPU
from tests.support.serving import free_port

ROOT = Path(__file__).parents[2]
# So that it works on engines without a bridge, too; the port inside is then the port outside.
NETWORK = ("--", "--network", "host")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a job in the image has been, and where its model is packed."""
    path = tmp_path_factory.mktemp("a job")
    generate(CATALOGUES["food"]).write_csv(path / "food.csv")
    words = ["train", "food.csv", "--output", "job", "--image", CPU, "--hyperparameter", "epochs=1"]
    trained = script("run_local.sh", path, *words, "--hyperparameter", "model_name=food", *NETWORK)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "== next: scripts/run_local.sh serve job/model\n" in trained.stdout
    assert (path / "job" / "output" / "data" / "run" / "result.json").stat().st_uid == path.stat().st_uid
    packed = script("package_model.sh", path, "job/model/food")
    assert packed.returncode == 0, packed.stderr
    return path


def script(name: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / name), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@contextmanager
def running(folder: Path, *words: str) -> Iterator[list[str]]:
    """The curl lines that are printed when it is ready; stopped in the end as by Ctrl-C, and with success."""
    command = [str(ROOT / "scripts" / "run_local.sh"), *words, "--image", CPU, "--port", str(free_port()), *NETWORK]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said, lines = "", []
        for line in process.stdout:
            said += line
            lines += [line.strip()] if line.startswith("  curl ") else []
            if re.match("  curl (-X DELETE|http)", line):
                break
        try:
            assert lines, said
            yield lines
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0, rest
    assert "== stopping: SIGTERM" in rest


def curl(line: str) -> bytes:
    """What a curl line gets."""
    words = shlex.split(line)
    body = words[words.index("-d") + 1].encode() if "-d" in words else None
    method = words[words.index("-X") + 1] if "-X" in words else None
    with urllib.request.urlopen(urllib.request.Request(words[-1], body, method=method), timeout=60) as answer:
        assert answer.status == 200
        content: bytes = answer.read()
    return content


@pytest.mark.parametrize("model", ["job/model", "model.tar.gz"])
def test_what_was_trained_is_served(folder: Path, model: str) -> None:
    with running(folder, "serve", model) as lines:
        user, item, models = (json.loads(curl(line)) for line in lines)
    assert (user["model_name"], user["reason"], len(user["recommendations"])) == ("food", "popular", 5)
    assert item["reason"] == "similar"
    assert "food" in [each["modelName"] for each in models["models"]]


def test_a_multi_model_endpoint_loads_answers_and_unloads(folder: Path) -> None:
    with running(folder, "multi-model", "model.tar.gz") as (load, invoke, unload):
        assert curl(load) == b""
        assert len(json.loads(curl(invoke))["recommendations"]) == 5
        curl(unload)


def test_a_model_that_cannot_be_served_ends_it_with_the_containers_code(folder: Path) -> None:
    (folder / "empty").mkdir()
    ended = script("run_local.sh", folder, "serve", "empty", "--image", CPU, "--port", str(free_port()), *NETWORK)
    assert ended.returncode == 1
    assert "No model found in model repository" in ended.stdout + ended.stderr
    assert "== the container ended before /ping was 200; its last lines above say why\n" in ended.stdout
