"""What an asynchronous endpoint publishes, read from a queue behind its topic; SNS and SQS by moto's server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.deploy.local.support import FILE, REGION, Local
from tests.deploy.support import written
from tests.support.eventually import eventually


@pytest.fixture
def topic(s3_url: str) -> tuple[str, str]:
    """A topic, and the queue that gets its messages."""
    account = {"region_name": REGION, "endpoint_url": s3_url, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
    sns, sqs = boto3.client("sns", **account), boto3.client("sqs", **account)
    arn, queue = sns.create_topic(Name="done")["TopicArn"], sqs.create_queue(QueueName="done")["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
    return arn, queue


def test_success_and_failure_are_published(tmp_path: Path, s3_url: str, topic: tuple[str, str]) -> None:
    arn, queue = topic
    places = "input: s3://my-bucket/in, output: s3://my-bucket/out"
    text = f"{FILE}asynchronous: {{{places}, success_topic: '{arn}', error_topic: '{arn}'}}\n"
    sqs = boto3.client("sqs", region_name=REGION, endpoint_url=s3_url, aws_access_key_id="x", aws_secret_access_key="x")
    messages: dict[str, Any] = {}

    def received() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            body = json.loads(message["Body"])
            messages[body["inferenceId"]] = body
        return len(messages) == 2

    with Local(written(tmp_path, text), AWS_ENDPOINT_URL=s3_url) as local:
        local.ready()
        ask = local.runtime.invoke_endpoint_async
        good = ask(EndpointName="shop", Body=b"{}", InferenceId="good")
        ask(EndpointName="shop", Body=b'{"make": {"status": 400}}', InferenceId="bad")
        eventually(received, about=local.log.read_text)
    assert messages["good"]["invocationStatus"] == "Completed"
    assert messages["good"]["responseParameters"]["outputLocation"] == good["OutputLocation"]
    assert messages["good"]["requestParameters"]["endpointName"] == "shop"
    assert messages["bad"]["invocationStatus"] == "Failed"
    assert "client error (400)" in messages["bad"]["failureReason"]
    assert {message["eventName"] for message in messages.values()} == {"InferenceResult"}
