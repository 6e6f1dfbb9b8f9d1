"""CPU time and memory of a server's processes by role, and how busy the machine is with other things."""

from __future__ import annotations

import os
import resource
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# How the kernel calls the processes (15 characters at most), and what they are here; all others are the front.
ROLES = {"tritonserver": "tritonserver", "triton_python_b": "model"}


def family(root: int) -> dict[int, tuple[str, float]]:
    """Role and CPU seconds of a process and of all that came from it."""
    parents: dict[int, int] = {}
    spent: dict[int, tuple[str, float]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, values = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:  # gone in this moment
            continue
        numbers = values.split()
        parents[int(entry.name)] = int(numbers[1])
        spent[int(entry.name)] = (ROLES.get(name, "front"), (int(numbers[11]) + int(numbers[12])) / TICKS)
    found = {}
    for each, what in spent.items():
        ancestor = each
        while ancestor != root and ancestor in parents:
            ancestor = parents[ancestor]
        if ancestor == root:
            found[each] = what
    return found


def cpu_seconds(root: int | None) -> dict[str, float]:
    """CPU time of a process and all that came from it, by role."""
    result: dict[str, float] = {}
    for role, seconds in family(root).values() if root is not None else ():
        result[role] = result.get(role, 0) + seconds
    return result


def memory_mb(root: int | None) -> dict[str, float]:
    """Memory of a process and all that came from it, by role, in MB; a page that several share is shared out (PSS)."""
    result: dict[str, float] = {}
    for process, (role, _) in family(root).items() if root is not None else ():
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        result[role] = result.get(role, 0) + kilobytes * 1024 / 1e6
    return result


def unrelated_seconds() -> float:
    """CPU time of the whole machine without this process, what it has started, and what of that has ended.

    What a hypervisor gave to others counts as well.
    """
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = sum(cpu_seconds(os.getpid()).values()) + ended.ru_utime + ended.ru_stime
    return (user + nice + system + irq + softirq + steal) / TICKS - ours
