"""Work that SIGTERM must not cut short."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)


@contextmanager
def undisturbed(what: str) -> Iterator[list[int]]:
    """SIGTERM does not interrupt what is done inside; it is noted in the list, and in the log once that is done."""
    heard: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGTERM, before)
        if heard:
            log.info("SIGTERM came while %s was finished", what)
