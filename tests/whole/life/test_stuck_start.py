"""A tritonserver that hangs while it starts, and one that only takes long."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.serving import Server, children_of
from tests.support.small_models import one, write_model

pytestmark = pytest.mark.e2e


# `serve` with little patience for a tritonserver that hangs while it starts.
IMPATIENT = """
from serve.supervisor import triton_health
triton_health.STUCK_SECONDS = 8.0
from serve.__main__ import main
main()
"""
# A model that hangs while it is loaded as long as a file is there, and one whose loading takes its time and works.
HANGS = """
import pathlib, time
class TritonPythonModel:
    def initialize(self, args):
        while pathlib.Path({file!r}).exists():
            time.sleep(1)
"""
TAKES_TIME = """
import time
class TritonPythonModel:
    def initialize(self, args):
        until = time.monotonic() + 12
        while time.monotonic() < until:
            sum(range(10000))
"""


def impatient_server(folder: Path, source: str) -> Server:
    """Serves one model, `double`, which begins with this source."""
    write_model("double", folder / "double")
    file = folder / "double" / "1" / "model.py"
    _, _, answers = file.read_text().partition("class TritonPythonModel:\n")
    file.write_text(f"import triton_python_backend_utils as triton{source}\n{answers}")
    server = Server(folder)
    server.command = [sys.executable, "-c", IMPATIENT]
    return server


def test_tritonserver_that_hangs_in_its_first_start_ends_serve(tmp_path: Path) -> None:
    hang = tmp_path / "hang"
    hang.touch()
    with impatient_server(tmp_path / "models", HANGS.format(file=str(hang))) as server:
        assert server.process.wait(120) == 1
        log = server.log.read_text()
        assert "tritonserver hangs while it starts: for 8 s it has hardly worked (SAGEMAKER_TRITON_LOG_VERBOSE" in log
        assert "tritonserver was killed by SIGKILL; giving up" in log
        assert "Traceback" not in log


def test_a_models_process_that_ends_when_it_is_loaded_ends_serve(tmp_path: Path) -> None:
    """Triton waits for ever for such a process."""
    with impatient_server(tmp_path / "models", "\nimport os\nos._exit(3)\nclass TritonPythonModel:\n") as server:
        assert server.process.wait(120) == 1
        assert "hardly worked, and a model's process has ended" in server.log.read_text()


def test_tritonserver_that_hangs_in_a_later_start_is_started_again(tmp_path: Path) -> None:
    hang = tmp_path / "hang"
    with impatient_server(tmp_path / "models", HANGS.format(file=str(hang))) as server:
        server.wait_until_ready()
        eventually(lambda: "ready after" in server.log.read_text())
        hang.touch()
        os.kill(children_of(server.process.pid)["tritonserver"], signal.SIGKILL)
        eventually(lambda: "tritonserver hangs" in server.log.read_text(), 120)
        hang.unlink()
        server.wait_until_ready()
        assert server.invoke(one("NUMBER", "INT32", 3, shape=[1, 1])).json["outputs"][0]["data"] == [6]
        assert "starting it again (2 of 3)" in server.log.read_text()


def test_a_start_that_takes_long_and_works_is_left_alone(tmp_path: Path) -> None:
    with impatient_server(tmp_path / "models", TAKES_TIME) as server:
        server.wait_until_ready()
        eventually(lambda: "ready after" in server.log.read_text())
        seconds = re.search(r"ready after ([0-9.]+) s", server.log.read_text())
        assert seconds is not None
        assert float(seconds[1]) > 12
        assert "hangs" not in server.log.read_text()
