"""Find the cause of a failed training of several processes in their output."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from ncf.errors import InputError

PRINTED = re.compile(r"(?:\[rank\d+\]: ?)?ncf: (.+)")
RAISED = re.compile(r"(?:\[rank\d+\]: ?)?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)(?::.*)?)$")
KILLED = re.compile(r"failed \(exitcode: -(\d+)\) local_rank: (\d+)")
SOURCE = re.compile(r"\[\S+\.(?:cc|cpp):\d+\] ?")  # a place in the source of PyTorch, which does not help the user
LOST = "lost another process"  # from LostProcessError: a consequence of an earlier error
FOLLOWED = ("ChildFailedError", "KeyboardInterrupt")
APART = ("DistNetworkError", "DistStoreError", "RendezvousTimeoutError")


class LaunchError(Exception):
    """The processes did not train a model; the message has the first error that is known on this host."""


def cause_of(lines: Sequence[str], current: str, hosts: Sequence[str], code: int) -> Exception:
    """The likeliest cause, from the last lines of the output of host `current` and the exit code of torchrun."""
    lines = [SOURCE.sub("", line) for line in lines]
    printed = [match[1] for line in lines if (match := PRINTED.match(line))]
    if mistakes := [text for text in printed if LOST not in text]:
        return InputError(mistakes[-1])
    raised = [match[1] for line in lines if (match := RAISED.match(line))]
    causes = [error for error in raised if not any(word in error for word in FOLLOWED)]
    apart = [error for error in causes if any(word in error for word in APART)]
    others = f"; the logs of {', '.join(hosts)} say more" if len(hosts) > 1 else ""
    if own := [error for error in causes if error not in apart]:
        return LaunchError(own[-1] + others)
    if killed := [match for line in lines if (match := KILLED.search(line))]:
        name = signal.Signals(int(killed[0][1])).name
        memory = ", which is how a machine out of memory ends processes" if name == "SIGKILL" else ""
        return LaunchError(f"process {killed[0][2]} on {current} was killed by {name}{memory}")
    if apart:
        return LaunchError(f"the hosts {', '.join(hosts)} did not come together: {apart[-1]}")
    if printed:
        return LaunchError(printed[-1] + others)
    return LaunchError(f"torchrun ended with exit code {code}; the log says more{others}")
