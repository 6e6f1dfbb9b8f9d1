"""Rules about training jobs and batch transforms."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.errors import UserError
from deploy.file.images import ecr_image
from deploy.file.jobs import TrainJob, TransformJob
from deploy.file.records import Filter
from deploy.rules import finding
from deploy.rules.finding import Finding

MAX_SECONDS = 28 * 86_400


def train(job: TrainJob) -> Iterator[Finding]:
    yield from _image(job.image, job.region)
    if job.max_seconds > MAX_SECONDS:
        yield Finding(
            ("max_seconds",), f"max_seconds is {job.max_seconds:,}; a job may run {MAX_SECONDS:,} s", finding.TRAINING
        )
    if not {"train", "training"} & job.channels.keys():
        names = ", ".join(job.channels)
        yield Finding(
            ("channels",), f"channels are {names}; the `train` verb reads train, so name one so", finding.TRAINING
        )


def transform(job: TransformJob) -> Iterator[Finding]:
    if job.image:
        yield from _image(job.image, job.region)
    if not 0 <= job.max_payload_mb <= 100:
        yield Finding(
            ("max_payload_mb",), f"max_payload_mb is {job.max_payload_mb}; it is 0 (no limit) to 100", finding.TRANSFORM
        )
    elif job.max_concurrent is not None and job.max_concurrent * job.max_payload_mb > 100:
        yield Finding(
            ("max_concurrent",),
            f"max_concurrent times max_payload_mb is {job.max_concurrent * job.max_payload_mb} MB; it is 100 at most",
            finding.TRANSFORM,
        )
    if job.timeout_seconds is not None and not 1 <= job.timeout_seconds <= 3600:
        yield Finding(
            ("timeout_seconds",), f"timeout_seconds is {job.timeout_seconds}; it is 1 to 3600", finding.TRANSFORM
        )
    if job.retries is not None and not 0 <= job.retries <= 3:
        yield Finding(("retries",), f"retries is {job.retries}; it is 0 to 3", finding.TRANSFORM)
    for name in ("input_filter", "output_filter"):
        try:
            Filter(name, getattr(job.output, name))
        except UserError as error:
            yield Finding(("output", name), str(error), finding.FILTERS)


def _image(image: str, region: str | None) -> Iterator[Finding]:
    place = ecr_image(image)
    if place is None:
        yield Finding(
            ("image",), f"image is {image}; it must be in ECR: scripts/push_to_ecr.sh prints a URI", finding.TRAINING
        )
    elif region and place.region != region:
        yield Finding(
            ("image",), f"image is in {place.region} and the job in {region}; push it to {region} too", finding.TRAINING
        )
