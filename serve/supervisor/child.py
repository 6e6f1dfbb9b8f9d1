"""A supervised process: it is started, started again when it dies, and stopped in the end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from serve.errors import StartError
from serve.processes import TICKS

log = logging.getLogger("serve")

RESTARTS, RESTART_WINDOW = 3, 600.0
READ_A_SECOND = 50e6
END_WITH_PARENT = Path(__file__).with_name("end_with_parent.py")


class Child:
    """A supervised process and the times of its recent deaths."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._start = start
        self._deaths: list[float] = []
        self.restarts = 0
        self.process = start()

    def check(self, may_restart: bool) -> bool:
        """Start the process again if it has died; returns whether it had.

        Raises StartError if it may not be started again, or has died too often.
        """
        code = self.process.poll()
        if code is None:
            return False
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        self.kill()  # the processes that it has left in its session
        now = time.monotonic()
        self._deaths = [death for death in self._deaths if now - death < RESTART_WINDOW] + [now]
        if not may_restart or len(self._deaths) > RESTARTS:
            raise StartError(f"{self.name} {how}; giving up")
        log.error("%s %s; starting it again (%d of %d)", self.name, how, len(self._deaths), RESTARTS)
        self.process = self._start()
        self.restarts += 1
        return True

    def children(self) -> dict[int, str]:
        """The pids of its children, each with its state in /proc; Z has ended, and its exit code is not collected."""
        found = {}
        with suppress(OSError):  # the process, one of its threads or a child may end in this moment
            for task in Path(f"/proc/{self.process.pid}/task").iterdir():
                with suppress(OSError):
                    for child in (task / "children").read_text().split():
                        with suppress(OSError):
                            found[int(child)] = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        return found

    def work(self) -> float:
        """The processor seconds used by the processes of its session: its own, and those that it has started. Reading
        `READ_A_SECOND` bytes counts as a second."""
        ticks = read = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # the process may end in this moment
                words = stat.read_text().rpartition(")")[2].split()
                if int(words[3]) == self.process.pid:
                    ticks += int(words[11]) + int(words[12])
                    read += int((stat.parent / "io").read_text().split()[1])  # rchar
        return ticks / TICKS + read / READ_A_SECOND

    def stop(self, seconds: float) -> None:
        """Send SIGTERM, and SIGKILL to all of its session that is left after `seconds`."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                log.error("%s did not stop within %.0f s; it is killed", self.name, seconds)
        self.kill()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def spawn(
    command: Sequence[str], environment: dict[str, str], *keep: int, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that gets SIGTERM if this one dies, in a session of its own: Ctrl-C reaches it through us alone.

    `keep` are the file descriptors that it inherits.
    """
    return subprocess.Popen(
        tied_to_us(command),
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        pass_fds=keep,
        start_new_session=True,
    )


def tied_to_us(command: Sequence[str]) -> list[str]:
    """The command that starts `command` so that it gets SIGTERM when this process, its parent, dies."""
    return [sys.executable, "-I", "-S", str(END_WITH_PARENT), str(os.getpid()), *command]
