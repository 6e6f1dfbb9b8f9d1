"""When a request is sent again: overload alone, after a random pause, and never more than the budget allows."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from deploy.client.results import AskError

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
Result = TypeVar("Result")


class Retries:
    """Pauses are drawn evenly between 0 and a bound that doubles (full jitter), so that callers come back apart.

    The budget is `budget` retries, and every `1 / refill` answers give one back: if a service is down for everybody, it
    does not get a multiple of its load. One object serves all threads.
    """

    def __init__(
        self,
        attempts: int = 5,
        budget: float = 10,
        refill: float = 0.1,
        pause: Callable[[float], None] = time.sleep,
        drawn: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._attempts, self._budget, self._refill = attempts, budget, refill
        self._left = budget
        self._lock = threading.Lock()
        self._pause, self._drawn = pause, drawn

    def call(self, ask: Callable[[], Result]) -> Result:
        """The answer, of the first attempt or of a later one. Raises the last AskError."""
        for attempt in range(self._attempts):
            try:
                result = ask()
            except AskError as error:
                if not error.is_passing or attempt + 1 == self._attempts or not self._take():
                    raise
                bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
                self._pause(error.retry_after + self._drawn(0, bound))
            else:
                with self._lock:
                    self._left = min(self._budget, self._left + self._refill)
                return result
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _take(self) -> bool:
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True
