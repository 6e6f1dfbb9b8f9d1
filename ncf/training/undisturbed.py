"""Work that a signal must not cut short."""

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
    """SIGTERM and Ctrl-C do not interrupt what is done inside; they are noted in the list, and afterwards in the log.

    Outside of the main thread, which is where Python hears signals, there is nothing to be done.
    """
    heard: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for noted in heard:
            log.info("%s came while %s was finished", signal.Signals(noted).name, what)
