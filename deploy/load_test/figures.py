"""The figures of a step, and the limits that end a test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.load_test.open_loop import Sent

LATE_SHARE = 0.1  # of the limit of the p99; a generator that is later than this may be the limit itself


@dataclass(frozen=True)
class Limits:
    """What a step must stay under to count as sustained."""

    p99_ms: float
    errors_percent: float


@dataclass(frozen=True)
class Step:
    """Requests at a rate for some seconds. Latencies are of answers, in ms, from the time at which they were due.

    `answered_per_s` are answers without errors until the last of them; `late_ms` is the 99th percentile of the time by
    which requests were sent too late; `unsent` were left out because too many waited already.
    """

    asked_per_s: float
    answered_per_s: float
    requests: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    errors: dict[str, int]
    late_ms: float
    unsent: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def errors_percent(self) -> float:
        return 100 * sum(self.errors.values()) / max(1, self.requests)

    def over(self, limits: Limits) -> str:
        """The limit that the step does not keep, in words; empty if it keeps all."""
        if self.errors_percent > limits.errors_percent:
            return (
                f"{self.errors_percent:.3g} % of the requests failed, and --errors-percent is {limits.errors_percent:g}"
            )
        if self.unsent:
            return f"so many requests waited for an answer that {self.unsent:,} more were not sent"
        if self.p99_ms is None or self.p99_ms > limits.p99_ms:
            return f"the p99 is {_ms(self.p99_ms)} ms, and --p99-ms is {limits.p99_ms:g}"
        return ""

    def is_late(self, limits: Limits) -> bool:
        """Whether the load generator itself may be the limit."""
        return self.late_ms > LATE_SHARE * limits.p99_ms

    def __str__(self) -> str:
        errors = ", ".join(f"{count:,} × {kind}" for kind, count in sorted(self.errors.items())) or "no errors"
        unsent = f", {self.unsent:,} not sent" if self.unsent else ""
        return (
            f"{self.asked_per_s:>8,.4g}/s asked {self.answered_per_s:>8,.4g}/s answered   p50 {_ms(self.p50_ms):>6}   "
            f"p95 {_ms(self.p95_ms):>6}   p99 {_ms(self.p99_ms):>6} ms   {errors}{unsent}"
        )


def measured(rate: float, start: float, seconds: float, parts: Sequence[Sent]) -> Step:
    """The figures of a step from what its processes sent."""
    answered = sorted(latency for part in parts for latency in part.answered)
    late = sorted(latency for part in parts for latency in part.late)
    errors: Counter[str] = sum((part.errors for part in parts), Counter())
    reasons = {kind: reason for part in parts for kind, reason in part.reasons.items()}
    took = max(seconds, *(part.last - start for part in parts))
    return Step(
        asked_per_s=rate,
        answered_per_s=len(answered) / took,
        requests=len(late),
        p50_ms=percentile_ms(answered, 50),
        p95_ms=percentile_ms(answered, 95),
        p99_ms=percentile_ms(answered, 99),
        errors=dict(errors),
        late_ms=percentile_ms(late, 99) or 0.0,
        unsent=sum(part.unsent for part in parts),
        reasons=reasons,
    )


def percentile_ms(ordered: Sequence[float], percent: float) -> float | None:
    """The smallest of the ordered seconds that so many percent of them do not exceed, in ms; None of none."""
    return 1000 * ordered[math.ceil(len(ordered) * percent / 100) - 1] if ordered else None


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
