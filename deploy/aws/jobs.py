"""Training jobs and batch transforms: started, watched, and their end told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from deploy.aws.logs import last_lines
from deploy.aws.session import Aws, in_words
from deploy.errors import WorldError

POLL_SECONDS = 15.0
DONE = ("Completed", "Failed", "Stopped")


class Kind(NamedTuple):
    """How SageMaker calls one of the two kinds of jobs."""

    describe: str
    name: str
    status: str
    logs: str


TRAINING = Kind("describe_training_job", "TrainingJobName", "TrainingJobStatus", "/aws/sagemaker/TrainingJobs")
TRANSFORM = Kind("describe_transform_job", "TransformJobName", "TransformJobStatus", "/aws/sagemaker/TransformJobs")


def start_training(aws: Aws, request: dict[str, Any]) -> None:
    with in_words():
        aws.sagemaker.create_training_job(**request)


def start_transform(aws: Aws, model: dict[str, Any] | None, request: dict[str, Any]) -> None:
    with in_words():
        if model:
            aws.sagemaker.create_model(**model)
        aws.sagemaker.create_transform_job(**request)


def delete_model(aws: Aws, name: str) -> None:
    with in_words():
        aws.sagemaker.delete_model(ModelName=name)


def watch(
    aws: Aws, kind: Kind, name: str, say: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Wait for the end, saying each change of status. Raises WorldError with the reason and the log's last lines."""
    told = ""
    while True:
        with in_words():
            found: dict[str, Any] = getattr(aws.sagemaker, kind.describe)(**{kind.name: name})
        status = str(found[kind.status])
        detail = f"{status}, {found['SecondaryStatus']}" if found.get("SecondaryStatus") else status
        if detail != told:
            say(f"{name}: {detail}")
            told = detail
        if status in DONE:
            break
        pause(POLL_SECONDS)
    if status == "Failed":
        log = "".join(f"\n    {line.text}" for line in last_lines(aws, kind.logs, prefix=f"{name}/"))
        reason = found.get("FailureReason", "SageMaker gives no reason")
        raise WorldError(f"the job {name} failed: {reason}{log}")
    return found
