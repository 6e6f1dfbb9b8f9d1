"""An asynchronous endpoint: requests from S3, answers and failures into S3, a few at a time."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from deploy.aws.notifications import notify
from deploy.client.transports import JSON, MAX_ASYNC_BYTES
from deploy.errors import DeployError
from deploy.file.endpoint import Asynchronous
from deploy.local.api import Request
from deploy.local.endpoint import Endpoint
from deploy.local.program import Reply
from deploy.local.refusals import Refusal, invalid, too_large

CONCURRENT = 4  # where the file names no max_concurrent_per_instance; AWS chooses by itself
DEFAULT_SECONDS = 900.0
DEFAULT_TTL = 21_600.0


@dataclass(frozen=True)
class Job:
    identity: str
    output: str
    failure: str
    request: Request
    expires: float


class Queue:
    """The requests that wait, and the tasks that answer them."""

    def __init__(self, endpoint: Endpoint, wanted: Asynchronous) -> None:
        self.done = self.failed = 0
        self._endpoint, self._wanted, self._storage = endpoint, wanted, endpoint.place.storage
        self.jobs: asyncio.Queue[Job] = asyncio.Queue()
        count = wanted.max_concurrent_per_instance or CONCURRENT
        self._workers = [asyncio.create_task(self._work()) for _ in range(count)]

    def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()

    async def add(self, request: Request) -> Job:
        """Raises Refusal."""
        if bool(request.body) == bool(request.get("InputLocation")):
            raise invalid("Give InputLocation or Body, and not both.")
        name = request.get("Filename") or f"{uuid.uuid4()}.out"
        below = f"{request.get('S3OutputPathExtension').strip('/')}/" if request.get("S3OutputPathExtension") else ""
        failures = self._wanted.failures
        job = Job(
            request.get("InferenceId") or str(uuid.uuid4()),
            f"{self._wanted.output.rstrip('/')}/{below}{name}",
            f"{failures.rstrip('/')}/{below}{name.removesuffix('.out')}-error.out" if failures else "",
            request,
            time.monotonic() + float(request.get("RequestTTLSeconds") or DEFAULT_TTL),
        )
        await self.jobs.put(job)
        return job

    async def _work(self) -> None:
        while True:
            job = await self.jobs.get()
            try:
                reply = await self._answer(job)
                self.done += 1
                where = {"contentType": reply.headers.get("content-type"), "outputLocation": job.output}
                outcome: dict[str, Any] = {"invocationStatus": "Completed", "responseParameters": where}
                topic = self._wanted.success_topic
            except (Refusal, DeployError) as error:
                self.failed += 1
                self._endpoint.place.say(f"{self._endpoint.name}: asynchronous request {job.identity} failed: {error}")
                if job.failure:
                    reason = json.dumps({"failureReason": str(error), "inferenceId": job.identity}).encode()
                    with suppress(DeployError):  # of the bucket, which the first error tells of
                        await asyncio.to_thread(self._storage.put, job.failure, reason, JSON)
                outcome = {"invocationStatus": "Failed", "failureReason": str(error)}
                topic = self._wanted.error_topic
            try:
                if topic not in (None, "create"):
                    about = (self._endpoint.name, job.request.get("InputLocation"), job.identity)
                    await asyncio.to_thread(notify, self._endpoint.place.region, topic, *about, outcome)
            except DeployError as error:
                self._endpoint.place.say(f"{self._endpoint.name}: nobody is told of {job.identity}: {error}")

    async def _answer(self, job: Job) -> Reply:
        if time.monotonic() > job.expires:
            raise invalid("The request waited in the queue for longer than RequestTTLSeconds.")
        request = job.request
        if location := request.get("InputLocation"):
            content = await asyncio.to_thread(self._storage.get, location)
            if len(content) > MAX_ASYNC_BYTES:
                raise too_large(MAX_ASYNC_BYTES)
            request = replace(request, body=content)
        _, hosted = self._endpoint.chosen(request)
        seconds = float(request.get("InvocationTimeoutSeconds") or DEFAULT_SECONDS)
        reply = await hosted.answer(request, seconds)
        content_type = reply.headers.get("content-type", "application/octet-stream")
        await asyncio.to_thread(self._storage.put, job.output, reply.body, content_type)
        return reply
