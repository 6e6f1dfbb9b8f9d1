"""What a variant has done, in the figures that CloudWatch would show of an endpoint."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

KEPT = 10_000  # latencies, the latest


@dataclass
class Figures:
    """Of one variant, from its start to its end."""

    invocations: int = 0
    client_errors: int = 0
    server_errors: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def count(self, status: int, seconds: float) -> None:
        """An answer of a container; status 0 is none."""
        self.invocations += 1
        self.client_errors += 400 <= status < 500
        self.server_errors += status >= 500 or status == 0
        self.seconds.append(seconds)

    def milliseconds(self, percent: float) -> float:
        """A percentile of the latency."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0

    @property
    def errors_percent(self) -> float:
        return 100 * self.server_errors / self.invocations if self.invocations else 0.0

    def __str__(self) -> str:
        return (
            f"{self.invocations} requests, {self.client_errors} × 4xx, {self.server_errors} × 5xx, "
            f"p50 {self.milliseconds(50):.1f} ms, p99 {self.milliseconds(99):.1f} ms"
        )


@dataclass
class Comparison:
    """A shadow's answers beside those of the production variant."""

    compared: int = 0
    equal: int = 0
    shared: float = 0.0  # sum of the shares of recommended items that both lists have
    skipped: int = 0

    def add(self, production: bytes, shadow: bytes) -> None:
        lists = list(zip(_lists(production), _lists(shadow), strict=False))
        if not lists:
            return
        self.compared += 1
        self.equal += all(ours == theirs for ours, theirs in lists)
        shares = [len(set(ours) & set(theirs)) / max(len(ours), len(theirs), 1) for ours, theirs in lists]
        self.shared += sum(shares) / len(shares)

    def __str__(self) -> str:
        skipped = f", {self.skipped} copies left out because 32 were under way" if self.skipped else ""
        if not self.compared:
            return f"no lists to compare{skipped}"
        return (
            f"{self.compared} lists compared: {self.equal} equal, "
            f"{100 * self.shared / self.compared:.1f} % of the items in both{skipped}"
        )


def _lists(body: bytes) -> Iterator[list[str]]:
    """The recommended items of each document in a body, of JSON or JSON Lines."""
    for line in [body] if body.count(b"\n") < 2 else body.splitlines():
        try:
            yield [json.dumps(item["item_id"]) for item in json.loads(line)["recommendations"]]
        except (ValueError, TypeError, KeyError, LookupError):
            continue
