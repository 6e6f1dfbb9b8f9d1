"""`make demo` and `make serve` as a newcomer runs them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

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


def run_demo(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(copy / "scripts" / "demo.py"), "--port", str(free_port()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_the_demo_trains_serves_asks_and_stops_and_a_second_run_reuses(copy: Path) -> None:
    first = run_demo(copy)
    assert first.returncode == 0, first.stdout + first.stderr
    assert len(re.findall(r"^curl -d .*/invocations$", first.stdout, re.MULTILINE)) == 7
    for model in ("ncf_food_model", "ncf_fashion_model"):
        assert f"ncf export --run .demo/run_{model.split('_')[1]}" in first.stdout
        assert f"{model} for" in first.stdout
    # The planted taste: most of what u17 is recommended comes from the groups u17 has had most.
    had = re.search(r"ncf_food_model for u17 \(personal\); has had \d+ × (\w+), \d+ × (\w+)", first.stdout)
    assert had is not None
    table = first.stdout.split("has had")[1].split("curl")[0]
    assert len(re.findall(rf"({had[1]}|{had[2]})-\d\d", table)) >= 4
    assert "soup-" in first.stdout.split("soups only")[1].split("curl")[0]
    assert "sushi-" in first.stdout.split("not trained with (history)")[1].split("curl")[0]
    assert "boots-" in first.stdout.split("items like boots-01 (similar)")[1].split("curl")[0]
    assert "serve has stopped with exit code 0" in first.stdout

    second = run_demo(copy)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "ncf train" not in second.stdout
    assert second.stdout.count("is there already") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_kept_running_it_stops_on_a_signal(copy: Path, number: signal.Signals) -> None:
    port = free_port()
    command = [sys.executable, str(copy / "scripts" / "demo.py"), "--keep-running", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "still serving" in line:
                break
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
            assert answer.status == 200
        time.sleep(0.5)
        running.send_signal(number)
        rest = running.stdout.read()
        assert running.wait(30) == 0
    assert "serve has stopped with exit code 0" in rest
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2)


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
