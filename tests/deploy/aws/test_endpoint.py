"""An endpoint that SageMaker would not change is found before CloudFormation begins."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from deploy.aws import endpoint
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
