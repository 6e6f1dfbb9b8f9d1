"""What follows from the steps: the block to paste is one that `ncf-deploy check` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.load_test.advice import advice, in_yaml
from deploy.load_test.figures import Limits, Step
from deploy.load_test.generator import rates, timeout
from deploy.load_test.plot import write_plot
from deploy.load_test.result import Result
from tests.deploy.load_test.test_figures import LIMITS, step
from tests.deploy.support import SINGLE, check

WELL = [step(asked_per_s=rate, answered_per_s=rate) for rate in (100.0, 200.0)]
OVER = step(asked_per_s=400.0, answered_per_s=310.0, p99_ms=900.0)


def result(steps: list[Step], **given: Any) -> Result:
    return Result("food", **{"instances": 2, "limits": LIMITS, "safety_factor": 0.5, "steps": steps, **given})


def test_rates_rise_by_a_factor_up_to_the_last() -> None:
    assert list(rates(10, 2, 50)) == [10, 20, 40, 50]
    assert list(rates(10, 2, 5)) == [5]
    endless = rates(1, 1.5, None)
    assert [next(endless) for _ in range(3)] == [1, 1.5, 2.25]


@pytest.mark.parametrize(("p99_ms", "seconds"), [(1, 10), (4000, 20), (60_000, 65)])
def test_a_request_counts_as_not_answered_long_after_the_limit(p99_ms: float, seconds: float) -> None:
    assert timeout(Limits(p99_ms, 1)) == seconds


@pytest.mark.parametrize(
    ("sustained", "instances", "safety", "wanted", "target", "least", "most"),
    [
        (200.0, 2, 0.5, None, 3000, 2, 4),
        (200.0, 2, 0.5, 250.0, 3000, 2, 5),
        (200.0, 2, 0.5, 251.0, 3000, 2, 6),
        (200.0, 2, 0.5, 10.0, 3000, 1, 1),
        (33.33, 1, 0.8, None, 1600, 1, 2),
        (0.1, 1, 0.5, 0.2, 3.0, 1, 4),
        (0.0001, 1, 0.5, None, 0.01, 1, 2),
    ],
)  # fmt: skip
def test_the_block_is_aws_s_formula_and_a_file_with_it_is_well(
    sustained: float, instances: int, safety: float, wanted: float | None, target: float, least: int, most: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    found = advice(sustained, instances, safety, wanted)
    block = "\n".join(in_yaml(found, safety, wanted))
    scaling = check(tmp_path, f"{SINGLE}{block}\n").file.scaling
    assert scaling is not None
    assert scaling.target is not None
    assert (scaling.target.metric, scaling.target.value) == ("invocations_per_instance", target)
    assert (scaling.min, scaling.max) == (least, most)
    assert found.scaling == {"min": least, "max": most, "target": scaling.target.model_dump(exclude_defaults=True)}


def test_a_large_target_is_a_number_in_yaml_too(tmp_path: Path) -> None:
    block = "\n".join(in_yaml(advice(40_000, 1, 0.5, 1e6), 0.5, 1e6))
    scaling = check(tmp_path, f"{SINGLE}{block}\n").file.scaling
    assert scaling is not None
    assert scaling.target is not None
    assert (scaling.target.value, scaling.max) == (1_200_000, 50)


def test_what_counts_is_the_last_step_before_the_first_over_a_limit() -> None:
    found = result([*WELL, OVER, step(asked_per_s=500.0)])
    assert found.sustained is WELL[1]
    assert found.advice == advice(200.0, 2, 0.5, None)
    assert result([OVER]).sustained is None
    assert result([OVER]).advice is None
    assert result([]).sustained is None


@pytest.mark.parametrize(
    ("steps", "given", "expected"),
    [
        ([*WELL, OVER], {}, ["the step of 400/s ended it: the p99 is 900 ms, and --p99-ms is 200"]),
        (WELL, {}, ["--max-rate ended it before a limit was reached: an instance may sustain more than was found"]),
        (WELL, {"is_interrupted": True}, ["interrupted before a limit was reached: an instance may sustain more"]),
        ([], {"is_interrupted": True}, ["interrupted before the first step was over: nothing was measured"]),
        (WELL, {"instances": 0}, ["--max-rate", "a serverless variant has no instances to count"]),
        (
            [step(errors={"503": 100, "400": 1}, reasons={"503": "overloaded", "400": "k is 0"}, late_ms=35.0)],
            {},
            ["the step of 100/s ended it: 10.1 %", "  400: k is 0", "  503: overloaded",
             "the load generator may be the limit: it sent 35 ms late (p99)"],
        ),
    ],
)  # fmt: skip
def test_the_end_has_its_reason_and_its_doubts(steps: list[Step], given: dict[str, Any], expected: list[str]) -> None:
    found = list(result(steps, **given).conclusion())
    assert len(found) == len(expected)
    for sentence, beginning in zip(found, expected, strict=True):
        assert sentence.startswith(beginning)


def test_json_has_every_figure() -> None:
    found = json.loads(json.dumps(result([*WELL, OVER], wanted_per_s=250.0).document()))
    assert found["scaling"] == {"min": 2, "max": 5, "target": {"metric": "invocations_per_instance", "value": 3000}}
    assert (found["per_instance_per_s"], found["instances"], found["limits"]["p99_ms"]) == (100, 2, 200)
    assert [one["over"] for one in found["steps"]] == ["", "", "the p99 is 900 ms, and --p99-ms is 200"]
    assert result([OVER]).document()["scaling"] is None


def test_the_plot_is_a_png_even_of_a_step_without_answers(tmp_path: Path) -> None:
    unanswered = step(asked_per_s=800.0, p50_ms=None, p95_ms=None, p99_ms=None)
    write_plot(tmp_path / "load.png", [*WELL, OVER, unanswered], LIMITS, "food")
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
