"""Claims: a text that can be written to a file and names the process that works on something.

A claim is "pid start-time". It is valid as long as that process lives; the start time is in it because the kernel gives
the pid of a process that has ended to another one.
"""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")  # the kernel's clock ticks in a second, in which it counts times of processes


def claim(pid: int | None = None) -> str:
    """The claim of a process, by default of this one."""
    pid = os.getpid() if pid is None else pid
    return f"{pid} {_started(pid)}"


def holds(claimed: str | None) -> bool:
    """Whether the process of a claim lives; without a claim False."""
    if not claimed:
        return False
    pid, _, started = claimed.partition(" ")
    return bool(started) and started == _started(int(pid))


def _started(pid: int) -> str:
    """When a process was started, in clock ticks since the machine's start; empty if it has ended."""
    try:
        # The second field is the program's name in brackets, which may contain anything.
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]  # a zombie has ended
