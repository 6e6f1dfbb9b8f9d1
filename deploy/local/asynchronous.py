"""An asynchronous endpoint: requests from S3, answers and failures into S3, a few at a time."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.client.transports import MAX_ASYNC_BYTES
from deploy.errors import DeployError
from deploy.file.endpoint import Asynchronous
from deploy.local.api import Request
from deploy.local.endpoint import Endpoint
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
    """Notifications (`success_topic`, `error_topic`) are not sent here."""

    def __init__(self, endpoint: Endpoint, wanted: Asynchronous) -> None:
        self.done = self.failed = 0
        self._endpoint, self._wanted = endpoint, wanted
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        count = wanted.max_concurrent_per_instance or CONCURRENT
        self._workers = [asyncio.create_task(self._work()) for _ in range(count)]

    @property
    def backlog(self) -> int:
        return self._jobs.qsize()

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
        await self._jobs.put(job)
        return job

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                await self._answer(job)
                self.done += 1
            except (Refusal, DeployError) as error:
                self.failed += 1
                self._endpoint.place.say(f"{self._endpoint.name}: asynchronous request {job.identity} failed: {error}")
                if job.failure:
                    reason = {"failureReason": str(error), "inferenceId": job.identity}
                    await self._put(job.failure, json.dumps(reason).encode(), "application/json")

    async def _answer(self, job: Job) -> None:
        if time.monotonic() > job.expires:
            raise invalid("The request waited in the queue for longer than RequestTTLSeconds.")
        request = job.request
        if location := request.get("InputLocation"):
            request = replace(request, body=await self._get(location))
        _, hosted = self._endpoint.chosen(request)
        seconds = float(request.get("InvocationTimeoutSeconds") or DEFAULT_SECONDS)
        reply = await hosted.answer(request, seconds)
        content_type = reply.headers.get("content-type", "application/octet-stream")
        await self._put(job.output, reply.body, content_type)

    async def _get(self, uri: str) -> bytes:
        with tempfile.NamedTemporaryFile(dir=self._endpoint.place.work) as file:
            await asyncio.to_thread(self._endpoint.place.storage.download, uri, Path(file.name))
            if Path(file.name).stat().st_size > MAX_ASYNC_BYTES:
                raise too_large(MAX_ASYNC_BYTES)
            return Path(file.name).read_bytes()

    async def _put(self, uri: str, content: bytes, content_type: str) -> None:
        await asyncio.to_thread(self._endpoint.place.storage.put, uri, content, content_type)
