"""What a test found: the rate that was sustained, why the test ended, and what makes its result doubtful."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from deploy.load_test.advice import Advice, advice
from deploy.load_test.figures import Limits, Step


@dataclass
class Result:
    """`instances` answered; 0 is a serverless variant. `wanted_per_s` is the most that the user expects."""

    target: str
    instances: int
    limits: Limits
    safety_factor: float
    wanted_per_s: float | None = None
    steps: list[Step] = field(default_factory=list)
    is_interrupted: bool = False

    @property
    def sustained(self) -> Step | None:
        """The last step before the first one over a limit."""
        found = None
        for step in self.steps:
            if step.over(self.limits):
                break
            found = step
        return found

    @property
    def advice(self) -> Advice | None:
        best = self.sustained
        if best is None or not self.instances:
            return None
        return advice(best.answered_per_s, self.instances, self.safety_factor, self.wanted_per_s)

    def conclusion(self) -> Iterator[str]:
        """Sentences for the user."""
        if not self.steps:
            yield "interrupted before the first step was over: nothing was measured"
            return
        last = self.steps[-1]
        if reason := last.over(self.limits):
            yield f"the step of {last.asked_per_s:,.4g}/s ended it: {reason}"
            for kind, text in sorted(last.reasons.items()):
                yield f"  {kind}: {text}"
            if last.is_late(self.limits):
                yield (
                    f"the load generator may be the limit: it sent {last.late_ms:,.0f} ms late (p99), so an instance "
                    "may sustain more than was found; run it on a machine with more processors that does nothing else, "
                    "or against fewer instances"
                )
        else:
            end = "interrupted" if self.is_interrupted else "--max-rate ended it"
            yield f"{end} before a limit was reached: an instance may sustain more than was found"
        if not self.instances:
            yield "a serverless variant has no instances to count; its capacity is max_concurrency"

    def document(self) -> dict[str, object]:
        """All figures, for JSON."""
        found = self.advice
        return {
            "target": self.target,
            "instances": self.instances,
            "limits": asdict(self.limits),
            "steps": [
                asdict(step) | {"over": step.over(self.limits), "is_late": step.is_late(self.limits)}
                for step in self.steps
            ],
            "per_instance_per_s": found.per_instance if found else None,
            "scaling": found.scaling if found else None,
        }
