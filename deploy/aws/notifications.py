"""SageMaker's messages about asynchronous requests, published to an emulator of SNS."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from deploy.aws.session import Aws, in_words


def notify(region: str, topic: str, endpoint: str, source: str, identity: str, outcome: Mapping[str, Any]) -> None:
    """Publish how a request ended. Raises DeployError.

    Without an emulator nothing is published, because the topic may be one of production. `outcome` has invocationStatus
    and, as on SageMaker, responseParameters or failureReason.
    https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-check-predictions.html
    """
    if not (os.environ.get("AWS_ENDPOINT_URL_SNS") or os.environ.get("AWS_ENDPOINT_URL")):
        return
    message = {
        "awsRegion": region,
        "eventName": "InferenceResult",
        "eventSource": "aws:sagemaker",
        "eventVersion": "1.0",
        "inferenceId": identity,
        "requestParameters": {"endpointName": endpoint, "inputLocation": source},
        **outcome,
    }
    with in_words():
        _sns(region).publish(TopicArn=topic, Message=json.dumps(message))


@cache
def _sns(region: str) -> Any:
    """One client for all messages, because making one reads botocore's model of the service. Threads may share it."""
    return Aws(region).client("sns")
