from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from serve.supervisor.child import spawn, tied_to_us

# Starts a child, says which process it is, and waits.
PARENT = """
import os, sys, time
from serve.supervisor.child import spawn
child = spawn([sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ))
print(child.pid, flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def status_of(pid: int) -> dict[str, str]:
    """/proc/<pid>/status; empty if there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def is_gone(pid: int) -> bool:
    return status_of(pid).get("State", "Z")[0] in "ZX"


def test_a_child_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    eventually(lambda: b"time.sleep" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[2])
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: is_gone(child))


def test_a_child_leads_a_session_of_its_own_and_has_the_usual_signals() -> None:
    """Ctrl-C at a terminal reaches `serve` alone; SIGPIPE ends a program that does not ask for anything else."""
    child = spawn(["/bin/sleep", "600"], dict(os.environ))
    try:
        eventually(lambda: Path(f"/proc/{child.pid}/cmdline").read_bytes() == b"/bin/sleep\x00600\x00")
        assert os.getsid(child.pid) == child.pid
        assert int(status_of(child.pid)["SigIgn"], 16) & (1 << signal.SIGPIPE - 1) == 0
    finally:
        child.kill()
        assert child.wait(30) == -signal.SIGKILL


def test_a_child_whose_parent_died_first_does_not_start(tmp_path: Path) -> None:
    """`sh` starts it and is its parent, not this process."""
    command = tied_to_us(["/bin/touch", str(tmp_path / "started")])
    ended = subprocess.run(["/bin/sh", "-c", '"$@"; exit $?', "sh", *command], timeout=30, check=False)
    assert ended.returncode == 1
    assert not (tmp_path / "started").exists()


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    program = tmp_path / "none"
    ended = subprocess.run(tied_to_us([str(program)]), capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr == f"serve: {program} cannot be started: No such file or directory\n"
