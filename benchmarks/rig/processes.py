"""CPU time and memory of a server's processes by role, and how busy other processes keep the machine."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
# Roles by the name that the kernel gives to a process (at most 15 characters); every other process is the front.
ROLES = {"tritonserver": "tritonserver", "triton_python_b": "model"}


def family(root: int) -> dict[int, tuple[str, float]]:
    """Role and CPU seconds of a process and of all its descendants, by process id."""
    parents: dict[int, int] = {}
    spent: dict[int, tuple[str, float]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, values = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:  # the process has just ended
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
    """CPU seconds of a process and of all its descendants, by role."""
    result: dict[str, float] = {}
    for role, seconds in family(root).values() if root is not None else ():
        result[role] = result.get(role, 0) + seconds
    return result


def memory_mb(root: int | None) -> dict[str, float]:
    """Memory of a process and of all its descendants, by role, in MB.

    A page that several processes share counts in parts (PSS).
    """
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
    """CPU seconds of the whole machine, without this process and its children, those that have ended included.

    The time that a hypervisor gave to other machines (steal) counts as well.
    """
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = sum(cpu_seconds(os.getpid()).values()) + ended.ru_utime + ended.ru_stime
    return (user + nice + system + irq + softirq + steal) / TICKS - ours


@contextlib.contextmanager
def cost(root: int | None) -> Iterator[dict[str, Any]]:
    """Measure the body: CPU seconds of a process and its descendants by role as "cpu", and "others".

    "others" is the number of cores that processes outside the benchmark kept busy.
    """
    found: dict[str, Any] = {}
    before, unrelated, began = cpu_seconds(root), unrelated_seconds(), time.monotonic()
    yield found
    elapsed, unrelated = time.monotonic() - began, unrelated_seconds() - unrelated
    found["cpu"] = {role: spent - before.get(role, 0) for role, spent in cpu_seconds(root).items()}
    found["others"] = max(0.0, unrelated / elapsed)


def per_request(costs: Mapping[str, Any], requests: int) -> dict[str, Any]:
    """The figures of a point from what `cost` has measured."""
    cpu_us = {role: 1e6 * spent / requests for role, spent in costs["cpu"].items()}
    return {"cpu_us": cpu_us, "others": costs["others"]}
