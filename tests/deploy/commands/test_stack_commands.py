"""plan, apply, status and destroy against moto's CloudFormation; what moto cannot do is stubbed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy.aws import images, stack
from deploy.aws.session import Aws
from deploy.aws.stack import Event, Stack
from deploy.aws.words import in_words
from deploy.commands.cli import cli
from deploy.errors import DeployError, UserError, WorldError
from tests.deploy.support import SINGLE, check, model_archive, stubbed, written

# moto knows no type that is newer than these.
FILE = SINGLE.replace("ml.c6i", "ml.m5").replace("s3://my-bucket/models/", "") + "uploads: s3://my-bucket/ncf\n"
WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def file(tmp_path: Path, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with its archive. The image is not in moto's ECR; test_images.py tests the look at it."""
    monkeypatch.setattr(images, "check", lambda *_: None)
    model_archive(tmp_path / "food.tar.gz")
    return written(tmp_path, FILE)


def run(command: str, file: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, [command, "-f", str(file), *options])


def failure(result: Result) -> DeployError:
    assert isinstance(result.exception, DeployError), result.output
    return result.exception


def test_from_a_file_to_an_endpoint_and_back(file: Path, aws: Aws) -> None:
    planned = run("plan", file).output.splitlines()
    assert planned[0].startswith("+ upload food.tar.gz to s3://my-bucket/ncf/")
    assert planned[1:] == [
        "+ make the role of the containers (Role)",
        "+ make a model (ModelAllTraffic)",
        "+ make the endpoint's configuration (EndpointConfig)",
        "+ make the endpoint (Endpoint)",
    ]
    assert aws.cloudformation.list_stacks(StackStatusFilter=["REVIEW_IN_PROGRESS"])["StackSummaries"] == []
    applied = run("apply", file, "--yes")
    assert applied.exit_code == 0
    assert "CREATE_COMPLETE" in applied.output
    assert f"ncf-deploy invoke -f {file} --data" in applied.output
    assert len(aws.sagemaker.list_endpoints()["Endpoints"]) == 1

    again = run("apply", file, "--yes").output
    assert "nothing to change: ncf-food is what endpoint.yaml says" in again
    assert "is in S3 already" in again
    assert run("plan", file).output == "nothing would change: ncf-food is what endpoint.yaml says\n"
    assert "stack ncf-food: CREATE_COMPLETE" in run("status", file).output

    (file.parent / "food.tar.gz").unlink()  # not needed any more
    destroyed = run("destroy", file, "--yes").output
    assert "- delete SageMaker::Endpoint" in destroyed
    assert "what stays: uploads under s3://my-bucket/ncf, the logs" in destroyed
    assert "ncf-food is gone" in destroyed
    assert aws.sagemaker.list_endpoints()["Endpoints"] == []
    assert aws.s3.list_objects_v2(Bucket="my-bucket")["KeyCount"] == 1
    assert "nothing to delete" in run("destroy", file, "--yes").output
    assert failure(run("status", file)).exit_code == 2


def test_nothing_happens_without_a_yes(file: Path, aws: Aws) -> None:
    assert "add --yes" in str(failure(run("apply", file)))
    assert aws.sagemaker.list_endpoints()["Endpoints"] == []
    assert Stack(aws, "food").status is None  # the change set and its empty stack are gone
    run("apply", file, "--yes")
    assert "add --yes" in str(failure(run("destroy", file)))
    assert len(aws.sagemaker.list_endpoints()["Endpoints"]) == 1


def test_two_files_do_not_name_one_endpoint(file: Path) -> None:
    run("apply", file, "--yes")
    other = written(file.parent, FILE, "other.yaml")
    for command in ("plan", "apply", "destroy"):
        error = failure(run(command, other))
        assert "was made from endpoint.yaml, and this is other.yaml" in str(error)
        assert error.exit_code == 2
    taken = run("apply", other, "--yes", "--take-over")
    assert taken.exit_code == 0
    result = CliRunner().invoke(cli, ["check", "-f", str(file), "-f", str(other)])
    assert "both name the endpoint food" in str(failure(result))


def test_an_endpoint_that_somebody_else_made_is_left_alone(file: Path, aws: Aws) -> None:
    role = "arn:aws:iam::123456789012:role/mine"
    aws.sagemaker.create_model(ModelName="m", ExecutionRoleArn=role)
    variant = {"VariantName": "A", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    aws.sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    aws.sagemaker.create_endpoint(EndpointName="food", EndpointConfigName="c")
    assert "there is an endpoint food in eu-central-1 that no stack ncf-food made" in str(failure(run("apply", file)))


def test_a_price_an_hour_comes_from_the_users_file_alone(file: Path) -> None:
    prices = written(file.parent, "ml.m5.xlarge: 0.276\n", "prices.yaml")
    assert "together 0.55 an hour" in run("plan", file, "--prices", str(prices)).output
    prices.write_text("ml.m5.large: 0.1\n")
    assert "the prices have no ml.m5.xlarge" in str(failure(run("plan", file, "--prices", str(prices))))
    prices.write_text("ml.m5.xlarge: cheap\n")
    assert "prices.yaml:1: the price of ml.m5.xlarge is cheap" in str(
        failure(run("plan", file, "--prices", str(prices)))
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("ROLLBACK_COMPLETE", "run `ncf-deploy destroy` and apply again"),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback --stack-name ncf-food"),
        ("UPDATE_IN_PROGRESS", "wait for it with `ncf-deploy status --wait`"),
    ],
)
def test_a_stack_that_cannot_be_changed_has_its_remedy(status: str, expected: str, aws: Aws) -> None:
    stub = stubbed(aws, "cloudformation")
    stub.add_response("describe_stacks", {"Stacks": [described(status)]})
    with pytest.raises(UserError) as caught:
        Stack(aws, "food").require_changeable("endpoint.yaml", False)
    assert expected in str(caught.value)


def described(status: str) -> dict[str, Any]:
    return {"StackName": "ncf-food", "StackId": "arn:x", "CreationTime": WHEN, "StackStatus": status}


def test_a_failed_change_set_is_forgotten_and_told(aws: Aws) -> None:
    stub = stubbed(aws, "cloudformation")
    stub.add_response("describe_stacks", {"Stacks": [described("CREATE_COMPLETE")]})
    stub.add_response("create_change_set", {"Id": "arn:c"})
    stub.add_response("describe_change_set", {"Status": "CREATE_IN_PROGRESS", "Changes": []})
    stub.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": "Template error: x", "Changes": []})
    stub.add_response("delete_change_set", {})
    with pytest.raises(UserError, match="CloudFormation refuses the change: Template error: x"):
        Stack(aws, "food", pause=lambda _: None).change_set({}, {}, {}, "endpoint.yaml")
    stub.assert_no_pending_responses()


def test_events_come_in_order_and_once(aws: Aws) -> None:
    def event(number: int, status: str) -> dict[str, Any]:
        return {
            "StackId": "arn:x", "EventId": str(number), "StackName": "ncf-food", "LogicalResourceId": f"R{number}",
            "ResourceType": "AWS::SageMaker::Endpoint", "ResourceStatus": status, "Timestamp": WHEN,
        }  # fmt: skip

    stub = stubbed(aws, "cloudformation")
    events = [event(number, "CREATE_FAILED" if number == 2 else "CREATE_COMPLETE") for number in range(4)]
    for status, known in (("UPDATE_IN_PROGRESS", events[:2]), ("UPDATE_COMPLETE", events)):
        stub.add_response("describe_stacks", {"Stacks": [described(status)]})
        stub.add_response("describe_stack_events", {"StackEvents": known[::-1]})
    found = list(Stack(aws, "food", pause=lambda _: None).follow("arn:x", {"0"}))
    assert [one.resource for one in found] == ["R1", "R2", "R3"]
    assert [one.is_failure for one in found] == [False, True, False]


def test_waiting_begins_with_what_was_begun_last(file: Path) -> None:
    run("apply", file, "--yes")
    file.write_text(FILE.replace("count: 2", "count: 3"))
    run("apply", file, "--yes")
    waited = run("status", file, "--wait").output
    assert "UPDATE_COMPLETE" in waited
    assert "CREATE_COMPLETE" not in waited


def failing(*_: Any) -> Iterator[Event]:
    yield Event("Endpoint", "AWS::SageMaker::Endpoint", "food", "CREATE_FAILED", "The container did not pass the ping")
    yield Event("Role", "AWS::IAM::Role", "r", "DELETE_COMPLETE", "")


def test_a_failure_has_awss_reason_and_the_containers_last_lines(
    file: Path, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = "/aws/sagemaker/Endpoints/food"
    aws.logs.create_log_group(logGroupName=group)
    aws.logs.create_log_stream(logGroupName=group, logStreamName="AllTraffic/i-0")
    now = int(datetime.now(timezone.utc).timestamp() * 1000)
    aws.logs.put_log_events(
        logGroupName=group,
        logStreamName="AllTraffic/i-0",
        logEvents=[{"timestamp": now, "message": "No model found in model repository"}],
    )
    monkeypatch.setattr(stack.Stack, "execute", failing)
    result = run("apply", file, "--yes")
    error = failure(result)
    assert isinstance(error, WorldError)
    assert error.exit_code == 1
    assert "Endpoint: The container did not pass the ping" in str(error)
    assert "No model found in model repository" in str(error)
    assert "CREATE_FAILED" in result.output


def test_ctrl_c_says_what_goes_on(file: Path, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Iterator[Event]:
        yield next(failing())
        raise KeyboardInterrupt

    monkeypatch.setattr(stack.Stack, "execute", interrupted)
    result = run("apply", file, "--yes")
    assert result.exit_code == 130
    assert "CloudFormation goes on with ncf-food" in result.output
    assert f"ncf-deploy status -f {file} --wait" in result.output
    assert "cancel-update-stack --region eu-central-1 --stack-name ncf-food" in result.output


def test_changes_are_words_and_hold_no_values(tmp_path: Path) -> None:
    def change(kind: str, action: str, replacement: str = "False", *names: str) -> dict[str, Any]:
        details = [{"Target": {"Name": name, "BeforeValue": "hunter2", "AfterValue": "hunter3"}} for name in names]
        return {
            "ResourceType": f"AWS::{kind}", "LogicalResourceId": "X", "Action": action, "Replacement": replacement,
            "Details": details,
        }  # fmt: skip

    file = check(tmp_path, SINGLE + "update: {strategy: canary, percent: 10, wait_seconds: 60}\n").file
    lines = list(
        in_words(
            [
                change("SageMaker::Endpoint", "Modify", "False", "EndpointConfigName"),
                change("SageMaker::Endpoint", "Modify", "True", "EndpointName"),
                change("SageMaker::Model", "Modify", "True", "PrimaryContainer"),
                change("CloudWatch::Alarm", "Remove"),
                change("IAM::Role", "Modify", "False", "Policies"),
                change("SNS::Topic", "Add"),
            ],
            file,
        )
    )
    assert lines == [
        "+ make a topic (X)",
        "~ update the endpoint (X) without downtime, canary, 10 % a step, 60 s between steps: EndpointConfigName",
        "~ REPLACE the endpoint (X), which is gone meanwhile: EndpointName",
        "~ put another one in place of a model (X): PrimaryContainer",
        "~ change the role of the containers (X): Policies",
        "- delete an alarm (X)",
    ]
    assert "hunter" not in "".join(lines)


def test_a_secret_is_in_no_template(file: Path) -> None:
    file.write_text(FILE.replace("  model:", "  environment: {DB_PASSWORD: {secret: shop/db}}\n  model:"))
    printed = CliRunner().invoke(cli, ["template", "-f", str(file)]).stdout
    variables = json.loads(printed)["Resources"]["ModelAllTraffic"]["Properties"]["PrimaryContainer"]["Environment"]
    assert variables == {"DB_PASSWORD": "{{resolve:secretsmanager:shop/db:SecretString}}"}
