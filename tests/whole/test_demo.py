"""`make demo` and `make serve` as a newcomer runs them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.serving import free_port

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone's scripts in an empty folder, so that the demo starts from nothing."""
    path = tmp_path_factory.mktemp("a clone")  # a space in the path, as in many a home
    shutil.copytree(ROOT / "scripts", path / "scripts")
    (path / "model_repository").mkdir()
    return path


@contextmanager
def running_demo(copy: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The demo as a process, and its port."""
    port = free_port()
    command = [sys.executable, str(copy / "scripts" / "demo.py"), "--port", str(port), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        yield running, port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_demo_trains_serves_asks_and_is_stopped_by_ctrl_c(copy: Path) -> None:
    with running_demo(copy, "--keep-running") as (running, port):
        assert running.stdout is not None
        text = ""
        for line in running.stdout:
            text += line
            if "still serving" in line:
                break
        assert listens(port), text
        running.send_signal(signal.SIGINT)
        text += running.stdout.read()
    assert running.returncode == 0, text
    assert not listens(port)
    assert len(re.findall(r"^curl -d .*/invocations$", text, re.MULTILINE)) == 7
    for model in ("ncf_food_model", "ncf_fashion_model"):
        assert f"ncf export --run .demo/run_{model.split('_')[1]}" in text
        assert f"{model} for" in text
    # The planted taste: most of what u17 is recommended comes from the groups u17 has had most.
    had = re.search(r"ncf_food_model for u17 \(personal\); has had \d+ × (\w+), \d+ × (\w+)", text)
    assert had is not None
    table = text.split("has had")[1].split("curl")[0]
    assert len(re.findall(rf"({had[1]}|{had[2]})-\d\d", table)) >= 4
    assert "soup-" in text.split("soups only")[1].split("curl")[0]
    assert "sushi-" in text.split("not trained with (history)")[1].split("curl")[0]
    assert "boots-" in text.split("items like boots-01 (similar)")[1].split("curl")[0]
    assert "serve has stopped with exit code 0" in text


def test_a_second_run_uses_what_is_there_and_ends_by_itself(copy: Path) -> None:
    with running_demo(copy) as (running, _):
        text, _ = running.communicate(timeout=300)
    assert running.returncode == 0, text
    assert "ncf train" not in text
    assert text.count("is there already") == 2
    assert "serve has stopped with exit code 0" in text


def test_the_endpoints_of_the_demo_shift_compare_and_roll_back(copy: Path) -> None:
    command = [sys.executable, str(copy / "scripts" / "demo_endpoint.py"), "--port", str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    text = ended.stdout + ended.stderr
    assert ended.returncode == 0, text
    assert "weights shifted from Champion 9, Challenger 1 to Champion 1, Challenger 1" in text
    assert re.search(r"version 1, shadow Shadow: \d+ requests, 0 × 4xx, 0 × 5xx", text)
    assert "lists compared: " in text
    assert "version 2 was rolled back to version 1: AllTraffic answered 100.0 % with 5xx" in text
    assert "20 requests, by who answered: {'AllTraffic': 20}" in text


def test_sigterm_while_serve_starts_stops_it(copy: Path) -> None:
    with running_demo(copy) as (running, port):
        eventually(lambda: listens(port))
        running.send_signal(signal.SIGTERM)
        text, _ = running.communicate(timeout=60)
    assert running.returncode == 0, text
    assert "serve has stopped with exit code 0" in text
    assert not listens(port)


def test_a_port_in_use_is_said_before_anything_else(copy: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(copy / "scripts" / "demo.py"), "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"port {port} is in use" in ended.stdout


def test_make_says_which_python_it_needs(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "ensure_libpython.sh", tmp_path / "scripts")
    environment = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
    ended = subprocess.run(
        ["make", "demo", "PYTHON=python0"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "this needs Python 3.10, 3.11 or 3.12, and python0 is not one" in ended.stdout
    assert not (tmp_path / ".venv").exists()
