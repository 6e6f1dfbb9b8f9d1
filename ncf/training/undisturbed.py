"""Work that a signal must not interrupt."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)


@contextmanager
def undisturbed(what: str) -> Iterator[list[int]]:
    """Context manager: SIGTERM and Ctrl-C do not interrupt its body; they are added to the list, and logged at the end.

    Python delivers signals to the main thread only, so in other threads it does nothing.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for noted in received:
            log.info("%s came while %s was finished", signal.Signals(noted).name, what)
