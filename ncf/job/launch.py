"""One model trained by several processes, on one host or several: torchrun, started and watched."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from ncf.job.cause import cause_of
from ncf.job.hosts import Hosts
from ncf.training.undisturbed import undisturbed

log = logging.getLogger(__name__)

MASTER_PORT = 29500  # hosts have to agree on one; on one host any free one is taken
TOGETHER_SECONDS = 600  # hosts may read and prepare their data before they meet
# Of the 120 that SageMaker gives: for the first process to write the best epoch, and on other hosts for it to be done.
FIRST_SECONDS, OTHERS_SECONDS = 100, 60
LINES = 400


def launch(
    hosts: Hosts,
    processes: int,
    options: Sequence[str],
    port: int = MASTER_PORT,
    together_seconds: int = TOGETHER_SECONDS,
) -> bool:
    """Run `ncf train` with some options in so many processes on each host; whether the job was stopped by a signal.

    Raises LaunchError or InputError where they fail for another reason.
    """
    alone = len(hosts.names) == 1
    command = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(hosts.names)}", f"--node-rank={hosts.rank}"),
        *(f"--nproc-per-node={processes}", f"--master-addr={'127.0.0.1' if alone else hosts.names[0]}"),
        *(f"--master-port={free_port() if alone else port}", f"--rdzv-conf=timeout={together_seconds}"),
        *("--module", "ncf", "train", *options),
    ]
    log.info("%d processes on each of %s", processes, ", ".join(hosts.names))
    # Ctrl-C is for this process alone, which tells one of the others, and not all at once.
    torchrun = subprocess.Popen(
        command, env=environment(hosts, processes), stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
    )  # fmt: skip
    lines: deque[str] = deque(maxlen=LINES)
    quiet = Event()
    reader = Thread(target=pass_on, args=(torchrun, lines, quiet), daemon=True)
    try:
        reader.start()
        code, stopped = torchrun.wait(), False
    except KeyboardInterrupt:
        with undisturbed("the training that is being stopped"):
            code, stopped = stop(torchrun, hosts, quiet), True
    reader.join(timeout=5)
    if code and not stopped:
        raise cause_of(list(lines), hosts.current, hosts.names, code)
    return stopped


def environment(hosts: Hosts, processes: int) -> dict[str, str]:
    """The processes' variables: who is reached by which network interface, and the cores of each."""
    own = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // processes))}
    interface = "lo" if len(hosts.names) == 1 else hosts.interface
    if interface:
        if interface in (name for _, name in socket.if_nameindex()):
            own |= {"GLOO_SOCKET_IFNAME": interface}
            own |= {"NCCL_SOCKET_IFNAME": interface} if len(hosts.names) > 1 else {}
        else:
            log.warning("resourceconfig.json names the network interface %s, which is not here", interface)
    return {**own, **os.environ}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def pass_on(torchrun: subprocess.Popen[str], lines: deque[str], quiet: Event) -> None:
    """What the processes say goes on to this one's standard error unless it is to be quiet; the last of it is kept."""
    assert torchrun.stderr is not None
    with torchrun.stderr as said:
        for line in said:
            lines.append(line.rstrip())
            if not quiet.is_set():
                sys.stderr.write(line)
                sys.stderr.flush()


def stop(torchrun: subprocess.Popen[str], hosts: Hosts, quiet: Event) -> int:
    """End training; the first process of all writes the best epoch. Returns torchrun's exit code.

    Only that one is told. A process that left in the middle of a step would cost the first one the step, and perhaps
    what it writes; the first one owes the others nothing. What those then complain of is no news.
    """
    if hosts.rank == 0 and (first := first_process(torchrun.pid)) is not None:
        os.kill(first, signal.SIGINT)
        end = time.monotonic() + FIRST_SECONDS
        while torchrun.poll() is None and not is_gone(first) and time.monotonic() < end:
            time.sleep(0.05)
        quiet.set()
    elif hosts.rank:
        quiet.set()
        with suppress(subprocess.TimeoutExpired):
            return torchrun.wait(OTHERS_SECONDS)
    # Asked to, torchrun waits minutes for its other processes and hosts, and nothing is left to come from them.
    if torchrun.poll() is None:
        for process in children(torchrun.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        torchrun.kill()
    return torchrun.wait()


def children(process: int) -> list[int]:
    """The processes that a process has started and that are there."""
    found = []
    with suppress(OSError):  # of a process that ends in this moment
        for task in Path(f"/proc/{process}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def first_process(torchrun: int) -> int | None:
    """The process of rank 0 among torchrun's."""
    for process in children(torchrun):
        with suppress(OSError):
            if b"RANK=0" in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                return process
    return None


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
