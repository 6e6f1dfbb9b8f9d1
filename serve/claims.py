"""Which process is at something, in a form that can be written to a file and is void when the process has died."""

from __future__ import annotations

import os
from pathlib import Path


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
