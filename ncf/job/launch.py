"""Train one model with several processes on one host or several: start torchrun and watch it."""

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

from ncf.job.cause import LOST, cause_of
from ncf.job.hosts import Hosts
from ncf.training.nothing_lost import undisturbed

log = logging.getLogger(__name__)

MASTER_PORT = 29500  # all hosts must use the same port; on a single host any free port is used
TOGETHER_SECONDS = 600  # seconds that a host waits for the others, which may still prepare their data
# SageMaker waits 120 seconds after SIGTERM. In FIRST_SECONDS the first process has to write the best epoch; the other
# hosts wait OTHERS_SECONDS for its end.
FIRST_SECONDS, OTHERS_SECONDS = 100, 60
LINES = 400


def launch(
    hosts: Hosts,
    processes: int,
    options: Sequence[str],
    port: int = MASTER_PORT,
    together_seconds: int = TOGETHER_SECONDS,
) -> bool:
    """Run `ncf train` with `options` in `processes` processes on each host.

    Returns whether a signal stopped the job. Raises LaunchError or InputError if it fails for another reason.
    """
    alone = len(hosts.names) == 1
    command = [
        *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(hosts.names)}", f"--node-rank={hosts.rank}"),
        *(f"--nproc-per-node={processes}", f"--master-addr={'127.0.0.1' if alone else hosts.names[0]}"),
        *(f"--master-port={free_port() if alone else port}", f"--rdzv-conf=timeout={together_seconds}"),
        *("--module", "ncf", "train", *options),
    ]
    log.info("%d processes on each of %s", processes, ", ".join(hosts.names))
    # In a session of its own, because Ctrl-C must reach this process only: it stops the others in order.
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
    """The environment of the processes: the network interface, and the number of threads of each."""
    own = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // processes))}
    interface = "lo" if len(hosts.names) == 1 else hosts.interface
    if interface:
        if interface in (name for _, name in socket.if_nameindex()):
            own |= {"GLOO_SOCKET_IFNAME": interface}
            own |= {"NCCL_SOCKET_IFNAME": interface} if len(hosts.names) > 1 else {}
        else:
            log.warning("resourceconfig.json names the network interface %s, which this host does not have", interface)
    return {**own, **os.environ}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def pass_on(torchrun: subprocess.Popen[str], lines: deque[str], quiet: Event) -> None:
    """Copy the standard error of the processes to ours, and keep the last lines of it.

    Once `quiet` is set only what `ncf` says is copied: at the end of the first process the others lose it, and torchrun
    reports that with a traceback.
    """
    assert torchrun.stderr is not None
    with torchrun.stderr as output:
        for line in output:
            lines.append(line.rstrip())
            if not quiet.is_set() or (line.startswith("ncf: ") and LOST not in line):
                sys.stderr.write(line)
                sys.stderr.flush()


def stop(torchrun: subprocess.Popen[str], hosts: Hosts, quiet: Event) -> int:
    """Stop the training; the first process writes the best epoch. Returns the exit code of torchrun.

    Only the first process gets a signal: if another process ended in the middle of a step, the first would fail before
    it has written the epoch.
    """
    quiet.set()
    if hosts.rank == 0 and (first := first_process(torchrun.pid)) is not None:
        os.kill(first, signal.SIGINT)
        end = time.monotonic() + FIRST_SECONDS
        while torchrun.poll() is None and not is_gone(first) and time.monotonic() < end:
            time.sleep(0.05)
    elif hosts.rank:
        with suppress(subprocess.TimeoutExpired):
            return torchrun.wait(OTHERS_SECONDS)
    # SIGKILL, because at SIGTERM torchrun waits minutes for its other processes and hosts, which have no work left.
    if torchrun.poll() is None:
        for process in children(torchrun.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        torchrun.kill()
    return torchrun.wait()


def children(process: int) -> list[int]:
    """The child processes of a process that are running."""
    found = []
    with suppress(OSError):  # the process may end at this moment
        for task in Path(f"/proc/{process}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def first_process(torchrun: int) -> int | None:
    """The process of rank 0 among the children of torchrun, None if it is on another host."""
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
