"""From what an instance sustained to the scaling of a declared file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

METRIC = "invocations_per_instance"  # SageMakerVariantInvocationsPerInstance, by the minute


@dataclass(frozen=True)
class Advice:
    """`target` is requests a minute for each instance; `least` and `most` are numbers of instances."""

    per_instance: float  # requests a second that one instance sustained
    target: float
    least: int
    most: int

    @property
    def scaling(self) -> dict[str, object]:
        """The key `scaling` of a declared file."""
        return {"min": self.least, "max": self.most, "target": {"metric": METRIC, "value": self.target}}


def advice(sustained_per_s: float, instances: int, safety_factor: float, wanted_per_s: float | None) -> Advice:
    """The target by AWS's formula: requests a second of one instance × 60 × the safety factor.

    `wanted_per_s` is the most that is expected, and the largest number of instances is as many as that needs. Without
    it, the largest number is twice the number that there is.
    """
    per_instance = sustained_per_s / instances
    a_minute = per_instance * 60 * safety_factor
    target = float(round(a_minute)) if a_minute >= 10 else max(0.01, round(a_minute, 2))
    most = 2 * instances if wanted_per_s is None else max(1, math.ceil(wanted_per_s * 60 / target))
    return Advice(per_instance, target, min(instances, most), most)


def in_yaml(found: Advice, safety_factor: float, wanted_per_s: float | None) -> Iterator[str]:
    """The block to paste into a declared file, with its reasons as comments."""
    rate = f"{found.per_instance:,.4g}"
    yield f"# An instance sustained at least {rate} requests/s; the target is {rate} × 60 × {safety_factor:g} a minute."
    if wanted_per_s is None:
        yield "# max is yours to choose: --requests-per-second N counts the instances for N requests/s."
    else:
        yield f"# {wanted_per_s:,.6g} requests/s need {found.most} instances: × 60 / {found.target:,.10g}, rounded up."
    yield "scaling:"
    yield f"  min: {found.least}"
    yield f"  max: {found.most}"
    yield f"  target: {{metric: {METRIC}, value: {found.target:.10g}}}"
