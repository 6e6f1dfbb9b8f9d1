"""SageMaker's runtime over HTTP: invoke, invoke with a response stream, and invoke asynchronously."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from aiohttp import web

from deploy.client.transports import INLINE_BYTES, LONGEST_STREAM, MAX_BYTES, MAX_SERVERLESS_BYTES
from deploy.local.api import ANSWER_HEADERS, Request, event, members
from deploy.local.asynchronous import Queue
from deploy.local.endpoint import Endpoint
from deploy.local.program import Reply, lower
from deploy.local.refusals import ACCOUNT, Refusal, invalid, too_large

VARIANT = "x-Amzn-Invoked-Production-Variant"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Runtime:
    """The routes; `endpoints` are those of this rehearsal, `queues` of those that are asynchronous."""

    def __init__(self, endpoints: dict[str, Endpoint], queues: dict[str, Queue]) -> None:
        self._endpoints, self._queues = endpoints, queues

    def add_to(self, application: web.Application) -> None:
        application.router.add_post("/endpoints/{name}/invocations", refusing(self.invoke))
        application.router.add_post("/endpoints/{name}/invocations-response-stream", refusing(self.stream))
        application.router.add_post("/endpoints/{name}/async-invocations", refusing(self.queue))

    def _endpoint(self, request: web.Request, is_async: bool = False) -> Endpoint:
        name = request.match_info["name"]
        if name not in self._endpoints:
            raise invalid(f"Endpoint {name} of account {ACCOUNT} not found.")
        if is_async != (name in self._queues):
            kind, call = ("not asynchronous", "InvokeEndpoint") if is_async else ("asynchronous", "InvokeEndpointAsync")
            raise invalid(f"Endpoint {name} is {kind}; use {call}.")
        return self._endpoints[name]

    async def _read(self, request: web.Request, operation: str, endpoint: Endpoint) -> Request:
        is_serverless = any(variant.serverless for variant in endpoint.live.file.all_variants)
        most = MAX_SERVERLESS_BYTES if is_serverless else MAX_BYTES
        return Request(await body(request, most), members(operation, request.headers))

    async def invoke(self, request: web.Request) -> web.StreamResponse:
        endpoint = self._endpoint(request)
        hosted, reply = await endpoint.answer(await self._read(request, "InvokeEndpoint", endpoint))
        headers = _passed_on(reply) | {VARIANT: hosted.variant.name}
        headers["Content-Type"] = reply.headers.get("content-type", "application/octet-stream")
        return web.Response(body=reply.body, headers=headers)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        endpoint = self._endpoint(request)
        read = await self._read(request, "InvokeEndpointWithResponseStream", endpoint)
        _, hosted = endpoint.chosen(read)
        async with hosted.stream(read, LONGEST_STREAM) as answer:
            reply = Reply(answer.status, lower(answer.headers), b"")
            headers = _passed_on(reply) | {VARIANT: hosted.variant.name}
            headers["X-Amzn-SageMaker-Content-Type"] = reply.headers.get("content-type", "application/octet-stream")
            response = web.StreamResponse(headers=headers | {"Content-Type": "application/vnd.amazon.eventstream"})
            await response.prepare(request)
            try:
                async for part in answer.content.iter_any():
                    await response.write(event("event", "PayloadPart", "application/octet-stream", part))
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                failure = {"Message": f"The model's stream broke: {error}", "ErrorCode": "ModelStreamBroken"}
                with suppress(OSError):  # the caller may have gone
                    body = json.dumps(failure).encode()
                    await response.write(event("exception", "ModelStreamError", "application/json", body))
            return response

    async def queue(self, request: web.Request) -> web.StreamResponse:
        endpoint = self._endpoint(request, is_async=True)
        wanted = members("InvokeEndpointAsync", request.headers)
        read = Request(await body(request, INLINE_BYTES), wanted)
        job = await self._queues[endpoint.name].add(read)
        headers = {"X-Amzn-SageMaker-OutputLocation": job.output}
        if job.failure:
            headers["X-Amzn-SageMaker-FailureLocation"] = job.failure
        return web.json_response({"InferenceId": job.identity}, status=202, headers=headers)


def _passed_on(reply: Reply) -> dict[str, str]:
    return {name: reply.headers[name.lower()] for name in ANSWER_HEADERS if name.lower() in reply.headers}


def refusing(handler: Handler) -> Handler:
    """A handler whose Refusals are answers."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            return refusal.response()

    return handle


async def body(request: web.Request, most: int) -> bytes:
    """The whole body. Raises Refusal if it is longer than `most`."""
    if (request.content_length or 0) > most:
        raise too_large(most)
    parts = bytearray()
    async for part in request.content.iter_any():
        parts += part
        if len(parts) > most:
            raise too_large(most)
    return bytes(parts)
