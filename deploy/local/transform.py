"""A batch transform: all objects under a prefix, cut into bodies, answered by a container, and put together again."""

from __future__ import annotations

import asyncio
import gzip
import zlib

from deploy.errors import UserError, WorldError
from deploy.file.hosting import IMAGE_CUDA, Container, Instances, Variant
from deploy.file.jobs import TransformJob
from deploy.file.records import Filter, bodies, filtered, joined
from deploy.local.api import Request
from deploy.local.hosted import Hosted
from deploy.local.place import Place
from deploy.local.refusals import Refusal

DEFAULT_SECONDS, DEFAULT_RETRIES = 600, 3  # ModelClientConfig


async def transform(job: TransformJob, place: Place) -> list[str]:
    """Run it; the summary, in lines. Raises DeployError."""
    if job.model_name:
        raise UserError(f"{job.model_name} is a model in SageMaker; for a rehearsal give image, model and role")
    variables = {**job.environment, "SAGEMAKER_BATCH": "true", "SAGEMAKER_BATCH_STRATEGY": job.strategy.upper()}
    variables["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(job.max_payload_mb)
    if job.max_concurrent:
        variables["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(job.max_concurrent)
    container = Container(image=job.image, model=job.model, environment=variables, cuda=IMAGE_CUDA)
    instances = Instances(type=job.instances.type, count=1)
    hosted = Hosted(Variant(name="transform", weight=1, container=container, instances=instances), place, job.name)
    sources = await asyncio.to_thread(lambda: list(place.storage.listed(job.input.from_)))
    if not sources:
        raise UserError(f"there is no object under {job.input.from_}; `aws s3 cp` puts requests there")
    try:
        await hosted.start()
        for source in sources:
            below = source.removeprefix(job.input.from_).lstrip("/") or source.rpartition("/")[2]
            target = f"{job.output.to.rstrip('/')}/{below}.out"
            content = await _answered(job, hosted, await asyncio.to_thread(_read, job, place, source))
            await asyncio.to_thread(place.storage.put, target, content, job.output.accept or job.input.content_type)
            place.say(f"{source} is answered in {target}")
    finally:
        await hosted.stop()
    return [f"{job.name}: {len(sources)} objects, {hosted.figures}", job.output.to]


def _read(job: TransformJob, place: Place, source: str) -> bytes:
    content = place.storage.get(source)
    try:
        return gzip.decompress(content) if job.input.compression == "gzip" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{source} is no gzip file: {error}; write compression: none") from error


async def _answered(job: TransformJob, hosted: Hosted, content: bytes) -> bytes:
    places = asyncio.Semaphore(job.max_concurrent or 1)
    content_type, output = job.input.content_type, job.output
    members = {"ContentType": content_type, "Accept": output.accept or content_type}

    async def answer(body: bytes) -> bytes:
        async with places:
            return await _ask(job, hosted, Request(body, members))

    sent = filtered(content_type, content, Filter("input_filter", output.input_filter))
    answers = await asyncio.gather(*map(answer, bodies(job, sent)))
    if job.input.split == "none":
        return b"".join(answers)
    lines = b"".join(reply if reply.endswith(b"\n") else reply + b"\n" for reply in answers)
    if output.join_input:
        lines = joined(content_type, content, lines)
    return filtered(content_type, lines, Filter("output_filter", output.output_filter))


async def _ask(job: TransformJob, hosted: Hosted, request: Request) -> bytes:
    """An answer, of one attempt among several if the container answers 5xx or not at all. Raises WorldError."""
    left = DEFAULT_RETRIES if job.retries is None else job.retries
    while True:
        try:
            return (await hosted.answer(request, job.timeout_seconds or DEFAULT_SECONDS)).body
        except Refusal as error:
            if not left or 400 <= error.members.get("OriginalStatusCode", 500) < 500:
                raise WorldError(f"{job.name} failed: {error}") from error
            left -= 1
            await asyncio.sleep(1)
