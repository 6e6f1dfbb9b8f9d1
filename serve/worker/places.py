"""Places for requests under way: each model has so many in a worker, and a request that finds none is turned away."""

from __future__ import annotations

from serve.errors import Overloaded
from serve.telemetry.counts import Tally


class Places:
    """The requests under way by model, at most `most` for each."""

    def __init__(self, most: int, tally: Tally) -> None:
        self.most = most
        self._tally = tally
        self._taken: dict[str, int] = {}

    def take(self, model: str) -> None:
        """Take a place, until `give_back`. Raises Overloaded if all are taken."""
        taken = self._taken.get(model, 0)
        if taken >= self.most:
            self._tally.shed(model)
            raise Overloaded(f"{model} has {taken:,} requests under way (SERVE_MAX_IN_FLIGHT); try again shortly")
        self._taken[model] = taken + 1
        self._tally.begin(model)

    def give_back(self, model: str) -> None:
        self._taken[model] -= 1
        self._tally.done(model)
