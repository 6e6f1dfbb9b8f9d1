"""One supervised process: started, started again when it dies, stopped in the end."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from serve.errors import StartError

log = logging.getLogger("serve")

RESTARTS, RESTART_WINDOW = 3, 600.0
PR_SET_PDEATHSIG = 1


class Child:
    """One supervised process with its recent deaths."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._start = start
        self._deaths: list[float] = []
        self.restarts = 0
        self.process = start()

    def check(self, may_restart: bool) -> bool:
        """Whether the process had died and was started again. Raises StartError when that is no longer worth trying."""
        code = self.process.poll()
        if code is None:
            return False
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        self.kill()  # whatever it left in its session
        now = time.monotonic()
        self._deaths = [death for death in self._deaths if now - death < RESTART_WINDOW] + [now]
        if not may_restart or len(self._deaths) > RESTARTS:
            raise StartError(f"{self.name} {how}; giving up")
        log.error("%s %s; starting it again (%d of %d)", self.name, how, len(self._deaths), RESTARTS)
        self.process = self._start()
        self.restarts += 1
        return True

    def dead_children(self) -> set[int]:
        """Its own children that have ended and that it has not asked for."""
        dead = set()
        with suppress(OSError):  # it may end in this moment
            for task in Path(f"/proc/{self.process.pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                        dead.add(int(child))
        return dead

    def stop(self, seconds: float) -> None:
        """SIGTERM, and SIGKILL for what is still there after `seconds`."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                log.error("%s did not stop within %.0f s and is killed", self.name, seconds)
        self.kill()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def spawn(
    command: Sequence[str], environment: dict[str, str], *keep: int, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """A child in a session of its own (Ctrl-C reaches it through us) that gets SIGTERM if we die without a word."""
    libc = ctypes.CDLL(None)

    def on_our_death() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        pass_fds=keep,
        start_new_session=True,
        preexec_fn=on_our_death,
    )
