"""Files of training jobs and batch transforms: what is refused, and what SageMaker is asked."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from click.testing import CliRunner, Result

from deploy.aws import jobs
from deploy.aws.session import Aws
from deploy.commands import job_commands
from deploy.commands.cli import cli
from deploy.errors import UserError
from tests.deploy.support import written

EXAMPLES = Path(__file__).parents[3] / "examples" / "deploy"
TRAIN = (EXAMPLES / "train-job.yaml").read_text()
TRANSFORM = (EXAMPLES / "transform.yaml").read_text()
WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def run(command: str, folder: Path, text: str, *options: str) -> Result:
    return CliRunner().invoke(cli, [command, "-f", str(written(folder, text, "job.yaml")), *options])


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        ("train-job", TRAIN.replace("spot: true\n", ""), "max_wait_seconds is for spot: true"),
        ("train-job", TRAIN.replace("28800", "100"), "max_wait_seconds is below max_seconds, 14400"),
        ("train-job", TRAIN.replace("checkpoints:", "# "), "a spot job can be interrupted"),
        ("train-job", TRAIN.replace("  train:", "  data:"), "channels are data, items; the `train` verb reads train"),
        ("train-job", TRAIN.replace("14400", "2500000").replace("28800", "2500000"), "a job may run 2,419,200 s"),
        ("train-job", TRAIN.replace("ml.m5.2", "ml.m5.3"), "instances.type is ml.m5.3xlarge; it is one of"),
        ("train-job", TRAIN.replace("region: eu-c", "region: us-c"), "push it to us-central-1 too"),
        ("train-job", TRAIN.replace("FastFile", "FastFiles"), "channels.train.mode is FastFiles"),
        ("transform", TRANSFORM.replace("mb: 20", "mb: 101"), "max_payload_mb is 101; it is 0 (no limit) to 100"),
        ("transform", TRANSFORM.replace("current: 4", "current: 6"), "is 120 MB; it is 100 at most"),
        ("transform", TRANSFORM + "timeout_seconds: 3601\n", "timeout_seconds is 3601; it is 1 to 3600"),
        ("transform", TRANSFORM + "retries: 4\n", "retries is 4; it is 0 to 3"),
        ("transform", TRANSFORM + "model_name: m\n", "give image, model and role, or model_name"),
        ("transform", TRANSFORM.replace("role:", "# "), "with image, give model and role too"),
        ("transform", TRANSFORM.replace("split: line", "split: none").replace("false", "true"), "work on lines"),
    ],
)
def test_a_job_that_aws_would_refuse_is_refused(command: str, text: str, expected: str, tmp_path: Path) -> None:
    result = run(command, tmp_path, text, "--check")
    assert isinstance(result.exception, UserError)
    assert expected in str(result.exception)
    assert "job.yaml:" in str(result.exception)


@pytest.fixture
def sagemaker(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Stubber:
    """The next answers of SageMaker, which the commands get."""
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0)
    monkeypatch.setattr(job_commands, "Aws", lambda region: aws)
    stub = Stubber(aws.sagemaker)
    stub.activate()
    return stub


def test_a_training_job_ends_with_its_model(sagemaker: Stubber, tmp_path: Path) -> None:
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:training-job/food-1"
    asked: dict[str, Any] = dict.fromkeys(
        (
            "TrainingJobName", "RoleArn", "AlgorithmSpecification", "InputDataConfig", "OutputDataConfig",
            "ResourceConfig", "CheckpointConfig",
        ),
        ANY,
    )  # fmt: skip
    asked |= {
        "HyperParameters": {"model": "neumf", "num_factors": "32", "model_name": "ncf_food_model", "max_time": "2h"},
        "EnableManagedSpotTraining": True,
        "StoppingCondition": {"MaxRuntimeInSeconds": 14400, "MaxWaitTimeInSeconds": 28800},
    }
    sagemaker.add_response("create_training_job", {"TrainingJobArn": arn}, asked)
    described = {
        "TrainingJobName": "food-1",
        "TrainingJobArn": arn,
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": {"InstanceType": "ml.m5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {},
        "CreationTime": WHEN,
        "ModelArtifacts": {"S3ModelArtifacts": "s3://my-bucket/runs/food-1/output/model.tar.gz"},
        "FinalMetricDataList": [{"MetricName": "NDCG", "Value": 0.447, "Timestamp": WHEN}],
        "TrainingTimeInSeconds": 100,
        "BillableTimeInSeconds": 30,
    }
    sagemaker.add_response("describe_training_job", described)
    result = run("train-job", tmp_path, TRAIN)
    assert result.stdout == "s3://my-bucket/runs/food-1/output/model.tar.gz\n"
    assert "NDCG 0.4470" in result.stderr
    assert "paid for 30 s of 100 s" in result.stderr


def test_a_transform_makes_its_model_and_deletes_it(sagemaker: Stubber, tmp_path: Path) -> None:
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:transform-job/everybody-1"
    sagemaker.add_response("create_model", {"ModelArn": arn.replace("transform-job", "model")})
    sagemaker.add_response("create_transform_job", {"TransformJobArn": arn})
    described = {
        "TransformJobName": "x",
        "TransformJobArn": arn,
        "TransformJobStatus": "Completed",
        "ModelName": "x",
        "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in"}}},
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        "CreationTime": WHEN,
    }
    sagemaker.add_response("describe_transform_job", described)
    sagemaker.add_response("delete_model", {})
    assert run("transform", tmp_path, TRANSFORM).stdout == "s3://my-bucket/recommended\n"
    sagemaker.assert_no_pending_responses()


def test_ctrl_c_leaves_a_job_running_and_says_how_to_stop_it(
    sagemaker: Stubber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "watch", interrupted)
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:training-job/food-1"
    sagemaker.add_response("create_training_job", {"TrainingJobArn": arn})
    result = run("train-job", tmp_path, TRAIN)
    assert result.exit_code == 130
    assert "goes on without this command" in result.output
    assert "aws sagemaker stop-training-job --training-job-name food-" in result.output
