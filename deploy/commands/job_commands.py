"""`train-job` and `transform`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from deploy.aws import jobs
from deploy.aws.session import Aws
from deploy.checked import in_words, mismatch_in_words
from deploy.commands.options import say
from deploy.errors import UserError
from deploy.file.base import Part
from deploy.file.jobs import TrainJob, TransformJob
from deploy.file.load import Loaded, load
from deploy.rules import jobs as rules
from deploy.rules.finding import Finding
from deploy.rules.service_model import compare
from deploy.template.jobs import model_request, train_request, transform_request

Job = TypeVar("Job", TrainJob, TransformJob)
the_job = click.option("-f", "--file", "path", type=click.Path(path_type=Path), required=True, help="The job's file.")
check_only = click.option("--check", "check_only", is_flag=True, help="Say what AWS would refuse, and start nothing.")
no_wait = click.option("--no-wait", is_flag=True, help="Start it and end.")


def checked_job(path: Path, kind: type[Job], rule: Callable[[Job], Iterator[Finding]]) -> Loaded[Job]:
    """Read and check a job's file. Raises UserError."""
    loaded = load(path, kind)
    if found := [in_words(one, loaded.source) for one in rule(loaded.content)]:
        raise UserError("\n".join(found))
    return loaded


def check_request(loaded: Loaded[Any], shape: str, request: dict[str, Any] | None) -> None:
    if found := [mismatch_in_words(one, loaded.source) for one in compare(shape, request or {})]:
        raise UserError("\n".join(found))


def _name(job: Part) -> str:
    return f"{getattr(job, 'name', '')}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


@click.command("train-job")
@the_job
@check_only
@no_wait
def train_job(path: Path, check_only: bool, no_wait: bool) -> None:
    """Train on SageMaker by the image's `train` verb, and print where the model is."""
    loaded = checked_job(path, TrainJob, rules.train)
    job = loaded.content
    name = _name(job)
    request = train_request(job, name)
    check_request(loaded, "CreateTrainingJobRequest", request)
    if check_only:
        click.echo(f"{path}: {job.name} is well")
        return
    aws = Aws(job.region)
    jobs.start_training(aws, request)
    say(f"{name} has started")
    if no_wait:
        click.echo(name)
        return
    found = _watched(aws, jobs.TRAINING, name)
    for metric in found.get("FinalMetricDataList") or []:
        say(f"{metric['MetricName']} {metric['Value']:.4f}")
    if found.get("BillableTimeInSeconds"):
        say(f"paid for {found['BillableTimeInSeconds']} s of {found.get('TrainingTimeInSeconds')} s")
    click.echo(found.get("ModelArtifacts", {}).get("S3ModelArtifacts", f"{name} ended without a model"))


@click.command()
@the_job
@check_only
@no_wait
def transform(path: Path, check_only: bool, no_wait: bool) -> None:
    """Answer all requests in S3, and print where the answers are."""
    loaded = checked_job(path, TransformJob, rules.transform)
    job = loaded.content
    name = _name(job)
    model, request = model_request(job, name), transform_request(job, name)
    check_request(loaded, "CreateModelInput", model)
    check_request(loaded, "CreateTransformJobRequest", request)
    if check_only:
        click.echo(f"{path}: {job.name} is well")
        return
    aws = Aws(job.region)
    jobs.start_transform(aws, model, request)
    say(f"{name} has started")
    if no_wait:
        if model:
            say(f"after its end delete its model: aws sagemaker delete-model --model-name {name}")
        click.echo(name)
        return
    try:
        _watched(aws, jobs.TRANSFORM, name)
    finally:
        if model:  # SageMaker reads a model at a job's start
            jobs.delete_model(aws, name)
    click.echo(job.output.to)


def _watched(aws: Aws, kind: jobs.Kind, name: str) -> dict[str, Any]:
    try:
        return jobs.watch(aws, kind, name, say)
    except KeyboardInterrupt:
        what = kind.describe.removeprefix("describe_").replace("_", "-")
        stop = f"aws sagemaker stop-{what} --{what}-name {name} --region {aws.region}"
        say(f"\n{name} goes on without this command.\n  stop it:  {stop}")
        raise SystemExit(130) from None
