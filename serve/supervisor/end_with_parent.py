"""Becomes another program that gets SIGTERM when its parent dies: `python end_with_parent.py PARENT_PID PROGRAM …`.

The supervisor starts its processes through this file, so that nothing is left running if `serve` is killed. The usual
place for this is `subprocess`'s preexec_fn, which can deadlock in a process with threads, and the supervisor has some.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent died before the kernel knew that its death matters
        sys.exit(1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and the next program would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as error:
        sys.exit(f"serve: {command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()
