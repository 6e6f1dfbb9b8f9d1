"""The template of each pattern. That it has no fault in CloudFormation's eyes is test_examples.py's matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.template.role import policy
from tests.deploy.support import HOSTED, IMAGE, SINGLE, check, indented, model_archive, resources

ASYNC = """\
asynchronous: {input: s3://my-bucket/in, output: s3://my-bucket/out,
  success_topic: create, answer_in_notification: true}
scaling: {min: 0, max: 3, target: {metric: backlog_per_instance, value: 5}}
"""


def variant(folder: Path, text: str) -> dict[str, Any]:
    (only,) = resources(folder, text)["EndpointConfig"]["ProductionVariants"]
    return dict(only)


def test_models_and_configurations_have_no_names_so_that_they_can_be_replaced(tmp_path: Path) -> None:
    made = resources(tmp_path, SINGLE)
    assert made["Endpoint"]["EndpointName"] == "food"
    assert "EndpointConfigName" not in made["EndpointConfig"]
    assert "ModelName" not in made["ModelAllTraffic"]


def test_a_local_archive_is_named_by_its_content(tmp_path: Path) -> None:
    model_archive(tmp_path / "food.tar.gz")
    text = SINGLE.replace("s3://my-bucket/models/food.tar.gz", "food.tar.gz") + "uploads: s3://my-bucket/ncf/\n"
    one = check(tmp_path, text)
    uri = one.template["Resources"]["ModelAllTraffic"]["Properties"]["PrimaryContainer"]["ModelDataUrl"]
    assert uri == one.uploads["food.tar.gz"]
    assert uri.startswith("s3://my-bucket/ncf/")


@pytest.mark.parametrize(
    ("instance_type", "cuda", "ami"),
    [
        ("ml.g5.xlarge", "13.0", "al2023-ami-sagemaker-inference-gpu-4-1"),
        ("ml.p5.48xlarge", "12.4", "al2-ami-sagemaker-inference-gpu-3-1"),
        ("ml.g4dn.xlarge", "12.1", "al2-ami-sagemaker-inference-gpu-2"),
        ("ml.g4dn.xlarge", "11.8", None),
        ("ml.c6i.xlarge", "13.0", None),
    ],
)
def test_an_ami_has_a_driver_for_the_images_cuda(
    instance_type: str, cuda: str, ami: str | None, tmp_path: Path
) -> None:
    text = SINGLE.replace("ml.c6i.xlarge", instance_type).replace("  model:", f"  cuda: {cuda}\n  model:")
    assert variant(tmp_path, text).get("InferenceAmiVersion") == ami


def test_a_multi_model_container_has_a_prefix(tmp_path: Path) -> None:
    text = SINGLE.replace(
        "model: s3://my-bucket/models/food.tar.gz", "models: s3://my-bucket/many/\n  cache_models: false"
    )
    container = resources(tmp_path, text)["ModelAllTraffic"]["PrimaryContainer"]
    assert container["Mode"] == "MultiModel"
    assert container["ModelDataUrl"] == "s3://my-bucket/many/"
    assert container["MultiModelConfig"] == {"ModelCacheSetting": "Disabled"}


def test_a_shadow_gets_its_share_by_weight(tmp_path: Path) -> None:
    made = resources(tmp_path, SINGLE + f"shadow:\n  percent: 50\n{indented(HOSTED)}")["EndpointConfig"]
    (shadow,) = made["ShadowProductionVariants"]
    assert (shadow["InitialVariantWeight"], made["ProductionVariants"][0]["InitialVariantWeight"]) == (0.5, 1)


def test_an_asynchronous_endpoint_starts_from_zero_by_its_backlog(tmp_path: Path) -> None:
    made = resources(tmp_path, SINGLE + ASYNC)
    output = made["EndpointConfig"]["AsyncInferenceConfig"]["OutputConfig"]
    assert output["NotificationConfig"] == {
        "SuccessTopic": {"Ref": "SuccessTopic"},
        "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"],
    }
    limits = {"SERVE_MAX_BODY_BYTES": "1073741824", "SERVE_TIMEOUT_SECONDS": "3600"}
    assert made["ModelAllTraffic"]["PrimaryContainer"]["Environment"].items() >= limits.items()
    assert made["CapacityAllTraffic"]["MinCapacity"] == 0
    assert made["BacklogAllTraffic"]["MetricName"] == "HasBacklogWithoutCapacity"
    assert made["BacklogAllTraffic"]["AlarmActions"] == [{"Ref": "FromZeroAllTraffic"}]
    metric = made["TrackAllTraffic"]["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"]
    assert metric["MetricName"] == "ApproximateBacklogSizePerInstance"
    assert metric["Dimensions"] == [{"Name": "EndpointName", "Value": "food"}]


def test_steps_are_intervals_from_the_alarms_threshold(tmp_path: Path) -> None:
    steps = "[{above: 350, add: 3}, {above: 250, add: 1}, {below: 50, add: -1}, {below: 10, add: -2}]"
    made = resources(tmp_path, SINGLE + f"scaling: {{min: 1, max: 5, step: {{metric: cpu_percent, steps: {steps}}}}}\n")
    assert made["AlarmAboveAllTraffic"]["Threshold"] == 250
    assert made["StepAboveAllTraffic"]["StepScalingPolicyConfiguration"]["StepAdjustments"] == [
        {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 100, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 100, "ScalingAdjustment": 3},
    ]
    assert made["AlarmBelowAllTraffic"]["Threshold"] == 50
    assert made["StepBelowAllTraffic"]["StepScalingPolicyConfiguration"]["StepAdjustments"] == [
        {"MetricIntervalUpperBound": 0, "MetricIntervalLowerBound": -40, "ScalingAdjustment": -1},
        {"MetricIntervalUpperBound": -40, "ScalingAdjustment": -2},
    ]
    assert made["Endpoint"]["RetainAllVariantProperties"] is True


def test_an_update_goes_back_by_alarms_of_the_stack_and_of_the_user(tmp_path: Path) -> None:
    update = (
        "{strategy: canary, percent: 10, wait_seconds: 60, rollback: {errors_percent: 1, latency_ms: 9, alarms: [x]}}"
    )
    made = resources(tmp_path, SINGLE + f"update: {update}\n")
    config = made["Endpoint"]["DeploymentConfig"]
    assert config["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"] == {
        "Type": "CANARY",
        "WaitIntervalInSeconds": 60,
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
    }
    names = [alarm["AlarmName"] for alarm in config["AutoRollbackConfiguration"]["Alarms"]]
    assert names == [{"Ref": "ErrorsAllTraffic"}, {"Ref": "LatencyAllTraffic"}, "x"]
    assert made["LatencyAllTraffic"]["Threshold"] == 9000
    rolling = resources(tmp_path, SINGLE + "update: {strategy: rolling, percent: 20}\n")["Endpoint"]["DeploymentConfig"]
    assert rolling["RollingUpdatePolicy"]["MaximumBatchSize"] == {"Type": "CAPACITY_PERCENT", "Value": 20}


@pytest.mark.parametrize(("more", "metric"), [("", "Invocations"), (ASYNC, "InvocationsProcessed")])
def test_the_share_of_errors_is_of_a_metric_that_the_endpoint_has(more: str, metric: str, tmp_path: Path) -> None:
    update = "update: {strategy: all_at_once, rollback: {errors_percent: 1}}\n"
    alarm = resources(tmp_path, SINGLE + more + update)["ErrorsAllTraffic"]
    names = {one["Id"]: one["MetricStat"]["Metric"]["MetricName"] for one in alarm["Metrics"] if "MetricStat" in one}
    assert names == {"errors": "Invocation5XXErrors", "invocations": metric}


def test_a_key_encrypts_disks_where_sagemaker_takes_one(tmp_path: Path) -> None:
    with_key = SINGLE + "kms_key: alias/mine\ncapture: {to: s3://my-bucket/c}\n"
    assert resources(tmp_path, with_key)["EndpointConfig"]["KmsKeyId"] == "alias/mine"
    local = resources(tmp_path, with_key.replace("ml.c6i.xlarge", "ml.m5d.xlarge"))["EndpointConfig"]
    assert "KmsKeyId" not in local
    assert local["DataCaptureConfig"]["KmsKeyId"] == "alias/mine"


def test_secrets_are_references(tmp_path: Path) -> None:
    text = SINGLE.replace("  model:", "  environment: {DB_PASSWORD: {secret: shop/db, key: password}}\n  model:")
    environment = resources(tmp_path, text)["ModelAllTraffic"]["PrimaryContainer"]["Environment"]
    assert environment == {"DB_PASSWORD": "{{resolve:secretsmanager:shop/db:SecretString:password}}"}


def test_an_approved_package_is_a_parameter(tmp_path: Path) -> None:
    text = f"name: food\ncontainer: {{package_group: food}}\n{HOSTED.splitlines()[-1]}\n"
    made = check(tmp_path, text).template
    assert list(made["Parameters"]) == ["PackageAllTraffic0"]
    container = made["Resources"]["ModelAllTraffic"]["Properties"]["PrimaryContainer"]
    assert container == {"ModelPackageName": {"Ref": "PackageAllTraffic0"}}


def test_the_role_has_the_rights_that_the_file_needs_and_no_others(tmp_path: Path) -> None:
    def rights(text: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for statement in policy(check(tmp_path, text).file)["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            found |= dict.fromkeys(actions, statement["Resource"])
        return found

    plain = rights(SINGLE)
    assert {action.split(":")[0] for action in plain} == {"ecr", "s3", "logs", "cloudwatch"}
    assert plain["s3:GetObject"] == [{"Fn::Sub": "arn:${AWS::Partition}:s3:::my-bucket/models/food.tar.gz"}]
    assert "s3:PutObject" not in plain
    more = rights(SINGLE + ASYNC + "kms_key: alias/mine\nvpc: {subnets: [subnet-1], security_groups: [sg-1]}\n")
    assert more["s3:PutObject"] == [{"Fn::Sub": "arn:${AWS::Partition}:s3:::my-bucket/out/*"}]
    assert {"sns:Publish", "kms:Decrypt", "ec2:CreateNetworkInterface"} <= set(more)
    assert not [action for action in more if "*" in action]


def test_a_role_of_the_user_is_taken(tmp_path: Path) -> None:
    made = resources(tmp_path, SINGLE + "role: arn:aws:iam::123456789012:role/mine\n")
    assert "Role" not in made
    assert made["ModelAllTraffic"]["ExecutionRoleArn"] == "arn:aws:iam::123456789012:role/mine"


@pytest.mark.parametrize(
    ("url", "kind", "permissions"), [("iam", "AWS_IAM", 0), ("public", "NONE", 2), ("none", None, 0)]
)
def test_a_function_is_the_lambda_verb_behind_a_url(
    url: str, kind: str | None, permissions: int, tmp_path: Path
) -> None:
    made = resources(tmp_path, f"name: food\nlambda: {{image: {IMAGE}, url: {url}}}\n")
    assert made["Function"]["ImageConfig"] == {"Command": ["lambda"]}
    assert made.get("Url", {}).get("AuthType") == kind
    assert sum(name.startswith("Anybody") for name in made) == permissions
