"""The dashboard of each pattern: every name is one that AWS publishes for it, and no graph lies on another."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from deploy.aws.session import Aws
from deploy.aws.stack import MAX_TEMPLATE_BYTES
from deploy.checked import checked
from deploy.errors import UserError
from deploy.file.load import load_endpoint
from tests.deploy.support import HOSTED, IMAGE, SINGLE, check, indented, model_archive

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "deploy").glob("*.yaml"))
OTHERS = ("lambda", "train-job", "transform")  # these make no endpoint
REQUESTS, INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"
ENDPOINT, VARIANT = ("EndpointName",), ("EndpointName", "VariantName")
CONTAINER = (*VARIANT, "ContainerName")
# What AWS publishes, by its pages on endpoints, multi-model, several containers, asynchronous and
# serverless (docs/deploy.md): namespace and dimensions of each metric.
KNOWN = {
    (REQUESTS, VARIANT): (
        "Invocations Invocation4XXErrors Invocation5XXErrors InvocationModelErrors ModelLatency OverheadLatency "
        "ConcurrentRequestsPerModel ModelSetupTime ServerlessConcurrentExecutionsUtilization "
        "ServerlessProvisionedConcurrencyUtilization ModelLoadingWaitTime ModelDownloadingTime ModelLoadingTime "
        "ModelUnloadingTime ModelCacheHit InvocationsProcessed InvocationFailures ExpiredRequests TimeInBacklog "
        "RequestDownloadFailures ResponseUploadFailures NotificationFailures"
    ),
    (REQUESTS, ENDPOINT): "ApproximateBacklogSize ApproximateBacklogSizePerInstance ApproximateAgeOfOldestRequest",
    (REQUESTS, CONTAINER): "Invocations ContainerLatency",
    (INSTANCES, VARIANT): (
        "CPUUtilization MemoryUtilization DiskUtilization GPUUtilization GPUMemoryUtilization LoadedModelCount"
    ),
    (INSTANCES, CONTAINER): "CPUUtilization MemoryUtilization",
}
# What is published for one kind of hosting alone, and so is on no other dashboard.
ONLY = {
    "asynchronous": "ApproximateBacklogSize InvocationsProcessed TimeInBacklog",
    "serverless": "ModelSetupTime ServerlessConcurrentExecutionsUtilization",
    "multi-model": "ModelLoadingWaitTime ModelCacheHit LoadedModelCount",
    "gpu": "GPUUtilization GPUMemoryUtilization",
}
NOT = {
    "asynchronous": "Invocations OverheadLatency InvocationModelErrors ConcurrentRequestsPerModel",
    "serverless": "CPUUtilization DiskUtilization InvocationModelErrors ConcurrentRequestsPerModel",
}


def body(template: dict[str, Any]) -> dict[str, Any]:
    """The dashboard's body as CloudFormation makes it, with stand-ins for what it fills in."""
    text = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    made = json.loads(re.sub(r"\$\{([^!}]+)\}", r"<\1>", text).replace("${!", "${"))
    assert isinstance(made, dict)
    return made


def example(path: Path, folder: Path) -> dict[str, Any]:
    """The template of an example that asks for a dashboard."""
    model_archive(folder / "food.tar.gz")
    copy = folder / path.name
    copy.write_text(re.sub(r"^dashboard:.*\n", "", path.read_text(), flags=re.MULTILINE) + "dashboard: true\n")
    return checked(copy).template


def metrics(board: dict[str, Any]) -> list[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of all metrics, with CloudWatch's shorthand written out."""
    found = []
    for widget in board["widgets"]:
        before: list[str] = []
        for line in widget["properties"].get("metrics", []):
            names = [part for part in line if isinstance(part, str)]
            if names == ["..."]:
                names = before
            if not names:
                continue  # an expression
            before = [old if part == "." else part for part, old in zip(names, before or names, strict=True)]
            found.append((before[0], before[1], dict(zip(before[2::2], before[3::2], strict=True))))
    return found


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem not in OTHERS], ids=lambda path: path.stem)
def test_a_dashboard_of_each_pattern_has_known_metrics_in_places_of_their_own(path: Path, tmp_path: Path) -> None:
    board = body(example(path, tmp_path))
    hosted = [one.name for one in load_endpoint(tmp_path / path.name).content.everything_hosted]
    found = metrics(board)
    for namespace, name, about in found:
        assert name in KNOWN[namespace, tuple(about)].split()
        assert about["EndpointName"] == load_endpoint(tmp_path / path.name).content.name
        assert about.get("VariantName", hosted[0]) in hosted
    assert {about["VariantName"] for _, _, about in found if "VariantName" in about} == set(hosted)
    names = {name for _, name, _ in found}
    for kind, only in ONLY.items():
        assert set(only.split()) <= names if kind == path.stem else not set(only.split()) & names
    assert not set(NOT.get(path.stem, "").split()) & names
    for widget in board["widgets"]:
        assert widget["x"] >= 0
        assert widget["x"] + widget["width"] <= 24
    for one, other in combinations(board["widgets"], 2):
        beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
        assert beside or one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]


def test_there_is_a_dashboard_where_the_file_asks_for_one(tmp_path: Path) -> None:
    assert "Dashboard" not in check(tmp_path, SINGLE).template["Resources"]
    made = check(tmp_path, SINGLE + "dashboard: true\ntags: {team: shop}\n").template["Resources"]["Dashboard"]
    assert made["Properties"]["DashboardName"] == {"Fn::Sub": "food-${AWS::Region}"}
    assert made["Properties"]["Tags"] == [{"Key": "team", "Value": "shop"}]
    with pytest.raises(UserError, match="a Lambda function has no dashboard"):
        check(tmp_path, f"name: food\nlambda: {{image: {IMAGE}}}\ndashboard: true\n")


def test_alarms_of_the_update_are_on_it(tmp_path: Path) -> None:
    update = "update: {strategy: all_at_once, rollback: {errors_percent: 1, alarms: ['my ${alarm}']}}\n"
    board = body(check(tmp_path, SINGLE + update + "dashboard: true\n").template)
    (shown,) = [widget for widget in board["widgets"] if widget["type"] == "alarm"]
    mine = "arn:<AWS::Partition>:cloudwatch:<AWS::Region>:<AWS::AccountId>:alarm:my ${alarm}"
    assert shown["properties"]["alarms"] == ["<ErrorsAllTraffic.Arn>", mine]
    without = body(check(tmp_path, SINGLE + "dashboard: true\n").template)
    assert not [widget for widget in without["widgets"] if widget["type"] == "alarm"]


@pytest.mark.parametrize("seconds", [10, 60, 300])
def test_instances_are_counted_whatever_the_interval_of_their_metrics_is(seconds: int, tmp_path: Path) -> None:
    board = body(check(tmp_path, SINGLE + f"dashboard: true\nmetrics: {{every_seconds: {seconds}}}\n").template)
    (graph,) = [w["properties"] for w in board["widgets"] if w["properties"].get("title") == "AllTraffic: instances"]
    (number,), samples = graph["metrics"]
    assert number["expression"] == f"samples * {seconds} / PERIOD(samples)"
    assert (samples[-1]["id"], samples[-1]["stat"], samples[-1]["visible"]) == ("samples", "SampleCount", False)
    assert graph["period"] == max(60, seconds)


def test_ten_variants_with_all_their_alarms_fit_into_a_template(tmp_path: Path) -> None:
    variants = "".join(f"- name: Variant-{number}-of-the-shop\n{indented(HOSTED)}" for number in range(10))
    update = "update: {strategy: canary, percent: 10, wait_seconds: 60, rollback: {errors_percent: 1}}\n"
    made = check(tmp_path, f"name: food\nvariants:\n{variants}{update}dashboard: true\n").template
    assert len(json.dumps(made, separators=(",", ":"))) <= MAX_TEMPLATE_BYTES


def test_cloudformation_makes_json_of_the_body(aws: Aws, tmp_path: Path) -> None:
    text = SINGLE.replace("ml.c6i.xlarge", "ml.m5.xlarge") + "dashboard: true\n"  # moto refuses c6i
    made = json.dumps(check(tmp_path, text).template)
    aws.client("cloudformation").create_stack(StackName="ncf-food", TemplateBody=made, Capabilities=["CAPABILITY_IAM"])
    board = json.loads(aws.client("cloudwatch").get_dashboard(DashboardName="food-eu-central-1")["DashboardBody"])
    graphs = [widget["properties"] for widget in board["widgets"] if widget["type"] == "metric"]
    assert {graph["region"] for graph in graphs} == {"eu-central-1"}
    assert graphs[1]["metrics"][0][:4] == ["AWS/SageMaker", "ModelLatency", "EndpointName", "food"]
