"""The bounds of a search in the documents are those in the code, also for SageMaker's tuning job."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.model import Shape
from botocore.validate import ParamValidator

from ncf.job.settings import typed
from ncf.training.config import TrainConfig
from ncf.tuning.ranges import RANGES, Range, ranges_for

DOCS = Path(__file__).parents[3] / "docs"
JOBS, TRAINING = ((DOCS / name).read_text() for name in ("training-jobs.md", "training.md"))


@pytest.fixture(scope="module")
def request_of_the_page() -> dict[str, Any]:
    """The arguments of create_hyper_parameter_tuning_job in docs/training-jobs.md."""
    (block,) = [each for each in re.findall(r"```python\n(.*?)```", JOBS, re.DOTALL) if "tuning_job(" in each]
    (call,) = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call) and node.keywords]
    return {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}


def test_the_tuning_job_is_a_request_that_sagemaker_takes(request_of_the_page: dict[str, Any]) -> None:
    model = botocore.session.Session().get_service_model("sagemaker")
    shape = model.operation_model("CreateHyperParameterTuningJob").input_shape
    problems = ParamValidator().validate(request_of_the_page, shape)
    assert not problems.has_errors(), problems.generate_report()
    assert list(faults(request_of_the_page, shape)) == []
    assert list(faults({"HyperParameterTuningJobName": "a b"}, shape)) != []


def faults(value: Any, shape: Shape, where: str = "") -> Any:
    """What botocore leaves to the service: words, forms and lengths."""
    if shape.type_name == "structure":
        for name, part in value.items():
            yield from faults(part, shape.members[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for part in value:
            yield from faults(part, shape.member, f"{where}[]")
    elif shape.type_name == "map":
        for part in value.values():
            yield from faults(part, shape.value, f"{where}{{}}")
    elif shape.type_name == "string":
        pattern, most = shape.metadata.get("pattern", ".*"), shape.metadata.get("max", len(value))
        if not re.fullmatch(pattern, value) or len(value) > most or value not in (shape.enum or [value]):
            yield f"{where} is {value!r}: {shape.metadata}"


def test_the_tuning_job_has_the_bounds_of_a_gmf_in_exact_training(request_of_the_page: dict[str, Any]) -> None:
    given = request_of_the_page["HyperParameterTuningJobConfig"]["ParameterRanges"]
    whole, others = given["IntegerParameterRanges"], given["ContinuousParameterRanges"]
    found = [
        (each["Name"], float(each["MinValue"]), float(each["MaxValue"]), each["ScalingType"], each in whole)
        for each in [*whole, *others]
    ]
    ours = ranges_for(TrainConfig(model="gmf", negatives="exact"), ())
    scales = {True: "Logarithmic", False: "Linear"}
    assert found == [(each.setting, each.low, each.high, scales[each.log], each.whole) for each in ours]


def test_the_job_takes_the_hyperparameters_and_prints_the_metric(request_of_the_page: dict[str, Any]) -> None:
    definition = request_of_the_page["TrainingJobDefinition"]
    fixed = typed(definition["StaticHyperParameters"])
    assert (fixed["model"], fixed["negatives"]) == ("gmf", "exact")
    for each in RANGES.values():
        for bounds in each:
            assert typed({bounds.setting: str(bounds.low)}).keys() == {bounds.setting}
    objective = request_of_the_page["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    (metric,) = definition["AlgorithmSpecification"]["MetricDefinitions"]
    assert metric["Name"] == objective["MetricName"]
    assert objective["Type"] == "Maximize"
    assert f"`{metric['Regex']}`" in JOBS  # of the table, which tests/ncf/job/test_job.py finds in a job's log


def test_the_table_of_the_guide_has_all_bounds() -> None:
    keys = dict.fromkeys((each.setting, each.models) for way in RANGES.values() for each in way)
    for setting, models in keys:
        cells = [cell(way, setting, models) for way in RANGES.values()]
        assert f"| `{setting}` | {', '.join(models)} | {' | '.join(cells)} |\n" in TRAINING
    assert len(re.findall(r"^\| `\w+` \| .*(?:logarithmic|linear)", TRAINING, re.MULTILINE)) == len(keys)


def cell(way: tuple[Range, ...], setting: str, models: tuple[str, ...]) -> str:
    return next((str(each) for each in way if (each.setting, each.models) == (setting, models)), "–")


def test_values_are_moved_into_the_bounds_and_rounded() -> None:
    rate, factors, negatives = Range("l2", 0.001, 0.1), Range("num_factors", 8, 64), Range("negatives", 1, 16)
    assert [rate.nearest(value) for value in (0, 0.05, 7)] == [0.001, 0.05, 0.1]
    assert [factors.nearest(value) for value in (4, 16)] == [8, 16]
    assert rate.setting_of(0.0123456) == 0.01235
    assert factors.setting_of(9) == 9
    assert negatives.setting_of(negatives.nearest("4")) == "4"
