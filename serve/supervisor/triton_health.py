"""Whether tritonserver still does its work: while it starts, and afterwards."""

from __future__ import annotations

import time

from serve.supervisor.child import Child
from serve.triton.admin import TritonAdmin

# Seconds from one check to the next, and seconds without an answer after which a server that was ready counts as hung.
LOOK_SECONDS, SILENT_SECONDS = 1.0, 30.0
# A server that starts answers nothing until its models are loaded, which may take any time. So a start that hangs is
# distinguished from a slow start by its use of the processor: a hung start uses 0.01 s a minute (docs/log.md), while
# reading a model of 300 MB from the slowest of disks uses more than 0.1 s. Five minutes of patience leave time
# for the reason to be logged before SageMaker gives up a container, which by default it does after eight minutes.
STUCK_SECONDS, PROGRESS_SECONDS = 300.0, 0.1
# Only a model's process may have a reason to sleep for so long, such as a service it waits for. Where none is alive,
# or one has ended, for which Triton would wait for ever, this is enough.
LOST_SECONDS, LOST_PROGRESS = 40.0, 0.4
# A longer pause between two checks means that all processes were frozen, as AWS Lambda does between requests.
FROZEN_SECONDS = 5 * LOOK_SECONDS


class TritonStart:
    """The watch over a tritonserver that is starting."""

    def __init__(self, triton: Child) -> None:
        self.triton = triton
        self.looked = self.progressed = time.monotonic()
        self.used = 0.0

    def is_due(self) -> bool:
        return time.monotonic() > self.looked + LOOK_SECONDS

    def problem(self) -> str | None:
        """Why the start will not succeed, as the end of a sentence about tritonserver; None if it may."""
        before, self.looked = self.looked, time.monotonic()
        used, states = self.triton.work(), [*self.triton.children().values()]
        patience, progress, why = STUCK_SECONDS, PROGRESS_SECONDS, ""
        if "Z" in states or not states:
            patience, progress = min(LOST_SECONDS, STUCK_SECONDS), LOST_PROGRESS
            why = ", and a model's process has ended" if states else ""
        # The work shrinks when one of the processes ends.
        if abs(used - self.used) >= progress or self.looked > before + FROZEN_SECONDS:
            self.used, self.progressed = used, self.looked
        if self.looked > self.progressed + patience:
            return (
                f"hangs while it starts: for {patience:.0f} s it has hardly worked{why} "
                "(SAGEMAKER_TRITON_LOG_VERBOSE=1 shows which model it was loading)"
            )
        return None


class TritonHealth:
    """The watch over a tritonserver that was ready."""

    def __init__(self, triton: Child, admin: TritonAdmin, watch_models: bool) -> None:
        """`watch_models`: whether Triton is to be started again when a model's process has died. On a multi-model
        endpoint it is not: that model is loaded again, and the others go on."""
        self.triton, self.admin, self.watch_models = triton, admin, watch_models
        self.looked = self.answered = time.monotonic()
        self.dead: set[int] = set()

    def is_due(self) -> bool:
        return time.monotonic() > self.looked + LOOK_SECONDS

    def problem(self) -> str | None:
        """Why the server must be started again, as the end of a sentence about tritonserver; None if it need not."""
        frozen = time.monotonic() > self.looked + FROZEN_SECONDS
        if self.admin.is_live(LOOK_SECONDS) or frozen:
            self.answered = time.monotonic()
        self.looked = time.monotonic()
        if self.looked > self.answered + SILENT_SECONDS:
            return f"has not answered for {SILENT_SECONDS:.0f} s"
        # Triton does not collect a process of its Python backend that has died, so it stays a zombie. A model that is
        # being unloaded has one for a moment, too: only a zombie that is there at two checks counts.
        children = self.triton.children() if self.watch_models else {}
        before, self.dead = self.dead, {pid for pid, state in children.items() if state == "Z"}
        return "has lost a model's process" if before & self.dead else None
