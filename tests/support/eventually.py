"""Waiting for a condition, with a limit that only a defect can reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 120, about: Callable[[], object] | None = None) -> T:
    """The first true value of `condition`; fails after `seconds`, with what `about` returns as the explanation."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, about() if about else f"it did not happen within {seconds} s"
        time.sleep(0.02)
    return value
