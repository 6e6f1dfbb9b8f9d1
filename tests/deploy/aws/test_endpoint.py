"""An endpoint that SageMaker would not change is found before CloudFormation begins."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from deploy.aws import endpoint
from deploy.aws.endpoint import Fleet
from deploy.aws.session import Aws
from deploy.errors import UserError
from tests.deploy.support import SINGLE, check, stubbed

WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)
ARN = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/food"
SCALING = "scaling: {min: 1, max: 2, target: {metric: cpu_percent, value: 50}}\n"


def described(status: str, **more: Any) -> dict[str, Any]:
    times = {"CreationTime": WHEN, "LastModifiedTime": WHEN}
    return {"EndpointName": "food", "EndpointArn": ARN, "EndpointStatus": status, **times, **more}


@pytest.mark.parametrize(
    ("status", "expected"),
    [("Updating", "is Updating; wait for it"), ("Failed", "is in Failed: no capacity. It can only be deleted; run")],
)
def test_a_busy_or_failed_endpoint_has_its_remedy(status: str, expected: str, aws: Aws, tmp_path: Path) -> None:
    file = check(tmp_path, SINGLE).file
    stubbed(aws, "sagemaker").add_response("describe_endpoint", described(status, FailureReason="no capacity."))
    with pytest.raises(UserError) as caught:
        endpoint.require_changeable(aws, file)
    assert expected in str(caught.value)


def test_a_variant_that_scales_keeps_its_instance_type(aws: Aws, tmp_path: Path) -> None:
    stub = stubbed(aws, "sagemaker")
    config = {
        "EndpointConfigName": "c",
        "EndpointConfigArn": ARN.replace("endpoint/", "endpoint-config/"),
        "CreationTime": WHEN,
        "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.m5.large"}],
    }
    for _ in range(2):
        stub.add_response("describe_endpoint", described("InService", EndpointConfigName="c"))
        stub.add_response("describe_endpoint_config", config)
    endpoint.require_changeable(aws, check(tmp_path, SINGLE).file)
    with pytest.raises(UserError, match=r"its instance type changes from ml\.m5\.large to ml\.c6i\.xlarge"):
        endpoint.require_changeable(aws, check(tmp_path, SINGLE + SCALING).file)


def test_an_endpoint_is_shown_with_its_variants() -> None:
    variants = [
        {"VariantName": "A", "CurrentWeight": 0.9, "CurrentInstanceCount": 1, "DesiredInstanceCount": 2},
        {"VariantName": "B", "CurrentServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}},
    ]
    assert list(endpoint.in_lines(described("InService", ProductionVariants=variants))) == [
        "endpoint food: InService",
        "  variant A: weight 0.9, 1 instances of 2 wanted",
        "  variant B: weight 1, serverless, 2048 MB, at most 5 at once",
    ]


VARIANT = {"VariantName": "A", "CurrentInstanceCount": 3}
SERVERLESS = {"VariantName": "S", "CurrentServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}
NONE_NOW = {"VariantName": "A", "CurrentInstanceCount": 0}
CAPTURE = {
    "EnableCapture": True, "CaptureStatus": "Started", "CurrentSamplingPercentage": 100,
    "DestinationS3Uri": "s3://my-bucket/captured", "KmsKeyId": "key",
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "variant", "expected"),
    [
        ({"ProductionVariants": [VARIANT]}, "", Fleet("A", 3)),
        ({"ProductionVariants": [SERVERLESS]}, "", Fleet("S", 0)),
        (
            {
                "ProductionVariants": [SERVERLESS, VARIANT],
                "DataCaptureConfig": CAPTURE,
                "ShadowProductionVariants": [VARIANT],
            },
            "A",
            Fleet("A", 3, ("they are captured in S3", "the shadow gets copies")),
        ),
    ],
)  # fmt: skip
def test_a_fleet_is_the_instances_of_a_variant(more: dict[str, Any], variant: str, expected: Fleet, aws: Aws) -> None:
    stubbed(aws, "sagemaker").add_response("describe_endpoint", described("InService", **more))
    assert endpoint.fleet(aws, "food", variant) == expected


@pytest.mark.parametrize(
    ("status", "more", "variant", "expected"),
    [
        ("Updating", {}, "", "the endpoint food is Updating; wait until it is InService"),
        (
            "InService",
            {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://my-bucket/out"}}},
            "",
            "is asynchronous: nobody waits for its answers",
        ),
        ("InService", {"ProductionVariants": [VARIANT, SERVERLESS]}, "", "has the variants A, S; choose one of them"),
        ("InService", {"ProductionVariants": [VARIANT]}, "B", "the variants A; choose one of them with --variant"),
        ("InService", {"ProductionVariants": [NONE_NOW]}, "", "variant A of food has no instance"),
    ],
)  # fmt: skip
def test_what_answers_no_requests_is_no_fleet(
    status: str, more: dict[str, Any], variant: str, expected: str, aws: Aws
) -> None:
    stubbed(aws, "sagemaker").add_response("describe_endpoint", described(status, **more))
    with pytest.raises(UserError, match=expected):
        endpoint.fleet(aws, "food", variant)


def test_a_fleet_of_no_endpoint_is_refused(aws: Aws) -> None:
    stubbed(aws, "sagemaker").add_client_error("describe_endpoint", "ValidationException", "Could not find endpoint")
    with pytest.raises(UserError, match="there is no endpoint food in eu-central-1; make it with `ncf-deploy apply`"):
        endpoint.fleet(aws, "food")
