"""Which process is at something, in a form that can be written to a file and is void when the process has died; and
the processes that are at a load which nobody wants any more."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

# A process that is killed before it has told Triton that it lives makes Triton wait for ever.
GROWN_UP_SECONDS = 10.0
STUB = b"/triton_python_backend_stub"


def claim() -> str:
    """This process: its id and when it was started, because ids are used again."""
    return f"{os.getpid()} {_started(os.getpid())}"


def holds(claimed: str | None) -> bool:
    """Whether the process that wrote a claim is still there."""
    if not claimed:
        return False
    pid, _, started = claimed.partition(" ")
    return started == _started(int(pid))


def _started(pid: int) -> str:
    """Empty if there is no such process, or only its end is left to be noticed."""
    try:
        # The program's name may hold anything, so what counts comes after its bracket.
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]


def end_loads(model: Path) -> None:
    """Kill the processes in which Triton's Python backend initializes the model it sees in a folder: Triton then gives
    the load up. Not one that is young, nor one that only completes the configuration, which Triton would wait for."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            program, file, *others = (process / "cmdline").read_bytes().split(b"\0")
            if not program.endswith(STUB) or not file.startswith(b"%b/" % os.fsencode(model)):
                continue
            name, pid = os.fsdecode(others[6]), int(process.name)
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(_started(pid) or "0") / os.sysconf("SC_CLK_TCK")
            if name != model.name and age > GROWN_UP_SECONDS:
                os.kill(pid, signal.SIGKILL)
