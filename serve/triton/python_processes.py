"""The processes in which Triton's Python backend runs models: found, and ended where Triton would not end them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from serve.processes import TICKS, claim, holds

STUB = b"/triton_python_backend_stub"


def instances(folder: Path, completing: bool = False) -> dict[str, list[str]]:
    """The processes of the models that Triton sees in `folder`, as claims (serve/processes.py) by model.

    With `completing` also the processes that only complete a model's configuration.
    """
    found: dict[str, list[str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            program, file, *others = (process / "cmdline").read_bytes().split(b"\0")
            model = Path(os.fsdecode(file)).parent.parent
            if not program.endswith(STUB) or model.parent != folder:
                continue
            # The ninth word is the instance's name; a process that only completes a configuration has the model's.
            if completing or os.fsdecode(others[6]) != model.name:
                found.setdefault(model.name, []).append(claim(int(process.name)))
    return found


def end(claimed: str, age: float) -> None:
    """Kill the process of a claim if it was started more than `age` seconds ago."""
    pid, _, started = claimed.partition(" ")
    if holds(claimed) and time.clock_gettime(time.CLOCK_BOOTTIME) > int(started) / TICKS + age:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def end_processes(prefix: str) -> None:
    """Kill the processes whose shared memory has names with this prefix."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            program, *words = (process / "cmdline").read_bytes().split(b"\0")
            if program.endswith(STUB) and any(prefix.encode() in word for word in words):
                os.kill(int(process.name), signal.SIGKILL)
