"""The model registry, jobs, and the lines that containers log."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from deploy.aws import jobs, packages
from deploy.aws.logs import Line, last_lines, lines
from deploy.aws.session import Aws
from deploy.errors import UserError, WorldError
from tests.deploy.support import HOSTED, check, stubbed

WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)
GROUP = f"name: food\ncontainer: {{package_group: food}}\n{HOSTED.splitlines()[-1]}\n"


def summary(version: int, approval: str) -> dict[str, Any]:
    return {
        "ModelPackageGroupName": "food",
        "ModelPackageVersion": version,
        "ModelPackageArn": f"arn:aws:sagemaker:eu-central-1:123456789012:model-package/food/{version}",
        "CreationTime": WHEN,
        "ModelPackageStatus": "Completed",
        "ModelApprovalStatus": approval,
    }


def test_the_newest_approved_version_is_deployed(aws: Aws, tmp_path: Path) -> None:
    stub = stubbed(aws, "sagemaker")
    versions = [summary(1, "Approved"), summary(3, "PendingManualApproval"), summary(2, "Approved")]
    stub.add_response("list_model_packages", {"ModelPackageSummaryList": versions})
    found = packages.parameters(aws, check(tmp_path, GROUP).file)
    assert found == {"PackageAllTraffic0": versions[2]["ModelPackageArn"]}


def test_without_an_approved_version_nothing_is_deployed(aws: Aws, tmp_path: Path) -> None:
    file = check(tmp_path, GROUP).file
    stub = stubbed(aws, "sagemaker")
    stub.add_response("list_model_packages", {"ModelPackageSummaryList": [summary(1, "Rejected")]})
    with pytest.raises(UserError, match=r"group food has no approved version; approve one .*\(there are 1\)"):
        packages.parameters(aws, file)
    stub.add_client_error("list_model_packages", "ValidationException", "does not exist")
    with pytest.raises(UserError, match="there is no package group food"):
        packages.parameters(aws, file)


def test_a_version_is_added_to_its_group_and_approved(aws: Aws) -> None:
    stub = stubbed(aws, "sagemaker")
    stub.add_client_error("describe_model_package_group", "ValidationException", "does not exist")
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:model-package/food/1"
    group = arn.replace("package/food/1", "package-group/food")
    stub.add_response("create_model_package_group", {"ModelPackageGroupArn": group})
    stub.add_response("create_model_package", {"ModelPackageArn": arn})
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ncf-triton:v1"
    assert packages.add(aws, "food", image, "s3://my-bucket/food.tar.gz", "", {"team": "x"}) == arn
    stub.add_response("list_model_packages", {"ModelPackageSummaryList": [summary(1, "PendingManualApproval")]})
    wanted = {"ModelPackageArn": arn, "ModelApprovalStatus": "Approved"}
    stub.add_response("update_model_package", {"ModelPackageArn": arn}, wanted)
    assert packages.approve(aws, "food", 1, True).approval == "Approved"
    stub.add_response("list_model_packages", {"ModelPackageSummaryList": [summary(1, "Approved")]})
    with pytest.raises(UserError, match="group food has no version 7"):
        packages.approve(aws, "food", 7, True)
    stub.assert_no_pending_responses()


def described(status: str, **more: Any) -> dict[str, Any]:
    return {
        "TransformJobName": "x-1",
        "TransformJobArn": "arn:aws:sagemaker:eu-central-1:123456789012:transform-job/x-1",
        "TransformJobStatus": status,
        "ModelName": "x-1",
        "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in"}}},
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        "CreationTime": WHEN,
        **more,
    }


def test_a_job_is_watched_to_its_end(aws: Aws) -> None:
    stub = stubbed(aws, "sagemaker")
    for status in ("InProgress", "InProgress", "Completed"):
        stub.add_response("describe_transform_job", described(status))
    said: list[str] = []
    jobs.watch(aws, jobs.TRANSFORM, "x-1", said.append, pause=lambda _: None)
    assert said == ["x-1: InProgress", "x-1: Completed"]


def test_a_failed_job_has_its_reason_and_the_end_of_its_log(aws: Aws) -> None:
    write(aws, jobs.TRANSFORM.logs, "x-1/i-0", "loading", "no model found")
    stub = stubbed(aws, "sagemaker")
    stub.add_response("describe_transform_job", described("Failed", FailureReason="ClientError: see the log"))
    with pytest.raises(WorldError) as caught:
        jobs.watch(aws, jobs.TRANSFORM, "x-1", lambda _: None, pause=lambda _: None)
    assert str(caught.value) == "the job x-1 failed: ClientError: see the log\n    loading\n    no model found"


def write(aws: Aws, group: str, stream: str, *texts: str) -> None:
    aws.logs.create_log_group(logGroupName=group)
    aws.logs.create_log_stream(logGroupName=group, logStreamName=stream)
    now = int(datetime.now(timezone.utc).timestamp() * 1000)
    events = [{"timestamp": now + place, "message": text} for place, text in enumerate(texts)]
    aws.logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def test_lines_of_containers(aws: Aws) -> None:
    group = "/aws/sagemaker/Endpoints/food"
    assert last_lines(aws, group) == []
    with pytest.raises(UserError, match="there is no log group"):
        list(lines(aws, group, 0, "", follow=False))
    write(aws, group, "A/i-0", "one", "two", "three")
    assert last_lines(aws, group, 2) == [Line("A/i-0", "two"), Line("A/i-0", "three")]
    assert [line.text for line in lines(aws, group, 0, "A", follow=False)] == ["one", "two", "three"]


def test_followed_lines_come_once(aws: Aws) -> None:
    group = "/aws/sagemaker/Endpoints/food"
    write(aws, group, "A/i-0", "one", "two")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(line.text for line in lines(aws, group, 0, "", follow=True, pause=pause))
    assert seen == ["one", "two"]
