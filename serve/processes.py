"""Which process is at something, in a form that can be written to a file and is void when the process has died; and
the processes of models in Python, in the same form."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from serve.models.served import Served, changing
from serve.triton.admin import LoadFailed, TritonAdmin
from serve.triton.out_of_memory import oom_kills

log = logging.getLogger("serve")

TICKS = os.sysconf("SC_CLK_TCK")
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


def instances(folder: Path, completing: bool = False) -> dict[str, list[str]]:
    """The processes in which Triton's Python backend runs the models it sees in a folder, as `claim` writes them; with
    `completing` also those that only complete a configuration."""
    found: dict[str, list[str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            program, file, *others = (process / "cmdline").read_bytes().split(b"\0")
            model = Path(os.fsdecode(file)).parent.parent
            if not program.endswith(STUB) or model.parent != folder:
                continue
            if completing or os.fsdecode(others[6]) != model.name:  # which is that of one that only completes
                found.setdefault(model.name, []).append(f"{process.name} {_started(int(process.name))}")
    return found


def end(claimed: str, age: float) -> None:
    """Kill a process that is older than so many seconds."""
    pid, _, started = claimed.partition(" ")
    if holds(claimed) and time.clock_gettime(time.CLOCK_BOOTTIME) > int(started) / TICKS + age:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def heal(admin: TritonAdmin, file: Path, folder: Path, no_room: dict[str, int]) -> None:
    """Load models again whose processes have died: Triton 2.51 answers requests to them with errors for good.

    `file` has what is served, Triton sees `folder`. `no_room` has those that failed again and how many models were
    loaded then: they come back when there are fewer, and until then SageMaker is told to unload some. Raises
    Unavailable.
    """
    served = Served.read(file)
    if not served.ready or (served.loading and oom_kills()):  # it may be what there is no memory for
        return
    for part in [part for parts in served.parts.values() for part in parts]:
        before, kills, failed = served.processes.get(part, []), oom_kills(), ""
        if all(map(holds, before)) or len(served.parts) >= no_room.get(part, sys.maxsize):
            continue
        log.error("a process of %s has died; it is loaded again", part)
        try:
            admin.load(part)
        except LoadFailed as error:
            failed = " ".join(str(error).split())[:1000]
        after = [process for process in instances(folder).get(part, ()) if process not in before]
        if oom_kills() > kills:
            failed = "there is not enough memory"
            for process in after:
                end(process, 0)
        if failed:
            log.error("%s does not come back before another model is unloaded: %s", part, failed)
            no_room[part] = len(served.parts)
            return  # if another had to die for it, that one is next
        no_room.pop(part, None)
        with changing(file) as now:
            if now.processes.get(part) == before:
                now.processes[part] = after
