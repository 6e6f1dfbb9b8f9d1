"""Start a server as a process of its own, wait until it is ready, and end it with everything that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from serve.supervisor.ports import LOOPBACK

START_SECONDS, STOP_SECONDS = 180, 40
SHOWN_CHARACTERS = 2000  # of the end of a log


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a session of its own; at the end the whole session is killed.

    Raises click.ClickException with the end of the log where the body fails because the process has ended.
    """
    with log.open("wb") as file:
        started = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        yield started
    except Exception as error:
        if started.poll() is not None:
            raise click.ClickException(f"{command[0]} ended with {started.returncode}:\n{end_of(log)}") from error
        raise
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):  # TorchServe's launcher ends before its Java process does
                os.killpg(started.pid, signal.SIGKILL)


def wait_for(ready: Callable[[], bool], started: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `ready`. Raises click.ClickException if the process ends, or after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if started.poll() is not None:
            raise click.ClickException(f"{log}: the server ended with {started.returncode}:\n{end_of(log)}")
        if time.monotonic() > deadline:
            raise click.ClickException(f"{log}: the server was not ready in {START_SECONDS} s:\n{end_of(log)}")
        time.sleep(0.1)


def end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-SHOWN_CHARACTERS:]


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback interface that no process listens on."""
    with contextlib.ExitStack() as bound:
        probes = [bound.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in probes]
