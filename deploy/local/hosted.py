"""A variant in service: its containers, each as one process, and how a request goes through them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from deploy.errors import DeployError, UserError
from deploy.file.hosting import Container, Variant
from deploy.local.api import Request
from deploy.local.figures import Figures
from deploy.local.multi_model import Models
from deploy.local.place import Place, Start, free_port, own_program, variables
from deploy.local.program import Gone, Program, Reply
from deploy.local.refusals import Refusal, invalid, model_error

PING_WINDOW = 480.0  # from the start of a container to its first good ping
SERVERLESS_WINDOW = 180.0
SERVERLESS_IDLE = 300.0  # then its containers are stopped; AWS publishes no figure


class Hosted:
    """One instance of a variant: the file's `count` and `scaling` are not rehearsed."""

    def __init__(self, variant: Variant, place: Place, label: str) -> None:
        self.variant, self.label, self.figures = variant, label, Figures()
        self.cold_starts = 0
        self._place = place
        self._folder = place.work / label.replace("/", "_")
        self._programs: list[Program] = []
        self._models: dict[Program, Models] = {}
        self._under_way = 0
        self._starting = asyncio.Lock()
        self._idle: asyncio.Task[None] | None = None

    @property
    def is_on_demand(self) -> bool:
        serverless = self.variant.serverless
        return serverless is not None and not serverless.provisioned_concurrency

    @property
    def restarts(self) -> int:
        return sum(program.restarts for program in self._programs)

    @property
    def models(self) -> list[Models]:
        return list(self._models.values())

    async def start(self) -> None:
        """All containers, healthy. Raises DeployError. A serverless variant waits for its first request."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for number, container in enumerate(self.variant.all_containers, 1):
            self._programs.append(await self._prepared(container, number))
        if not self.is_on_demand:
            await self._start_all()

    async def _start_all(self) -> None:
        instances = self.variant.instances
        usual = SERVERLESS_WINDOW if self.variant.serverless else PING_WINDOW
        window = (instances.startup_timeout_seconds if instances else None) or usual
        results = await asyncio.gather(*(one.start(window) for one in self._programs), return_exceptions=True)
        for failure in results:
            if isinstance(failure, BaseException):
                await self._stop_all()
                raise failure

    async def _prepared(self, container: Container, number: int) -> Program:
        """A container's process, not started yet, with its model unpacked."""
        name = container.name or ("primary" if self.variant.container else f"container-{number}")
        is_ours = not self._place.docker and self._place.command(container.image) is None
        if container.from_registry:
            raise UserError(
                f"{self.label}: packages of the registry are not rehearsed; write image and model in their place"
            )
        if is_ours and not (container.model or container.models):
            raise UserError(
                f"{self.label}: container {name} has no model that `serve` could serve; if its image is a program of "
                f"yours, add --image {str(container.image).rpartition('/')[2]}='COMMAND' on $SAGEMAKER_BIND_TO_PORT"
            )
        root = self._folder / name / "model"
        if container.model:
            await asyncio.to_thread(self._place.storage.unpack, container.model, root, is_ours)
        else:
            root.mkdir(parents=True)
        environment = variables(container.environment)
        if container.models:
            environment |= {"SAGEMAKER_MULTI_MODEL": "true"}
        if self.variant.containers:
            environment["SAGEMAKER_SAFE_PORT_RANGE"] = next(self._place.ports)
        start = await asyncio.to_thread(self._start_of, container, root, environment)
        log = self._place.work / f"{self.label}/{name}.log".replace("/", "_")
        program = Program(f"{self.label}/{name}", start, log, self._place.say)
        if container.models:
            self._models[program] = Models(container.models, container.cache_models, self._place.storage, root)
        return program

    def _start_of(self, container: Container, root: Path, environment: dict[str, str]) -> Start:
        port = free_port()
        environment = environment | {"SAGEMAKER_BIND_TO_PORT": str(port)}
        if self._place.docker:
            inside = root if container.models else "/opt/ml/model"
            options = f"--volume={root}:{inside}:ro", f"--publish=127.0.0.1:{port}:{port}"
            return self._place.container(container.image, "serve", environment, port, *options)
        folder = "SERVE_MULTI_MODEL_ROOT" if container.models else "SERVE_MODEL_REPOSITORY"
        own = {"SERVE_BIND_ADDRESS": "127.0.0.1", folder: str(root)}
        return Start(self._place.command(container.image) or own_program("serve"), own | environment, port)

    async def stop(self) -> None:
        if self._idle:
            self._idle.cancel()
        await self._stop_all()

    async def _stop_all(self) -> None:
        await asyncio.gather(*(program.stop() for program in self._programs))

    async def answer(self, request: Request, seconds: float) -> Reply:
        """The last container's answer. Raises Refusal for anything but 2xx, and counts it."""
        async with self._place_for_one():
            began = time.monotonic()
            reply = Reply(0, {}, b"")
            for program in self._chosen(request):
                reply = await self._ask(program, request, max(seconds - (time.monotonic() - began), 0.001), began)
                content_type = reply.headers.get("content-type", "application/octet-stream")
                request = replace(request, body=reply.body, members={**request.members, "ContentType": content_type})
            self.figures.count(reply.status, time.monotonic() - began)
            return reply

    async def _ask(self, program: Program, request: Request, seconds: float, began: float) -> Reply:
        try:
            if program in self._models:
                reply = await self._models[program].answer(program, request, seconds)
            else:
                reply = await program.ask("POST", "/invocations", request.body, request.to_container(), seconds)
        except Gone as error:
            reply = Reply(0, {}, str(error).encode())
        if not 200 <= reply.status < 300:
            self.figures.count(reply.status, time.monotonic() - began)
            raise self._error(program, reply.status, reply.body)
        return reply

    def _error(self, program: Program, status: int, body: bytes) -> Refusal:
        container = program.label.rpartition("/")[2]
        return model_error(self._place.endpoint, self._place.region, container, status, body, program.log)

    @asynccontextmanager
    async def stream(self, request: Request, seconds: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer of the one container as it comes. Raises Refusal."""
        async with self._place_for_one():
            began = time.monotonic()
            *others, program = self._chosen(request)
            if others or self._models:
                raise invalid("Response streaming is for endpoints of one container and one model.")
            status = 0
            try:
                headers = request.to_container()
                async with program.open("POST", "/invocations", request.body, headers, seconds) as answer:
                    status = answer.status
                    if not 200 <= status < 300:
                        raise self._error(program, status, await answer.read())
                    yield answer
            except Gone as error:
                raise self._error(program, 0, str(error).encode()) from error
            finally:
                self.figures.count(status, time.monotonic() - began)

    def _chosen(self, request: Request) -> list[Program]:
        wanted = request.get("TargetContainerHostname")
        if self.variant.invocation != "direct":
            if wanted:
                raise invalid("TargetContainerHostname is for endpoints with invocation mode Direct.")
            chosen = self._programs
        else:
            chosen = [one for one in self._programs if one.label.rpartition("/")[2] == wanted]
            if not chosen:
                raise invalid(
                    f"TargetContainerHostname {wanted or 'is missing; it'} must name a container of the endpoint."
                )
        if down := [one.label for one in chosen if not one.is_healthy]:
            message = f"{', '.join(down)} does not answer /ping and is being started again."
            raise Refusal(503, "ServiceUnavailable", message)
        return chosen

    @asynccontextmanager
    async def _place_for_one(self) -> AsyncIterator[None]:
        """A serverless variant's concurrency, and its start if it has been idle."""
        serverless = self.variant.serverless
        if serverless and self._under_way >= serverless.max_concurrency:
            message = f"Rate exceeded: {serverless.max_concurrency} requests are under way (max_concurrency)."
            raise Refusal(429, "ThrottlingException", message)
        self._under_way += 1
        try:
            if self.is_on_demand:
                await self._warm()
            yield
        finally:
            self._under_way -= 1
            if self.is_on_demand and not self._under_way:
                self._idle = asyncio.create_task(self._cool())

    async def _warm(self) -> None:
        if self._idle:
            self._idle.cancel()
        async with self._starting:
            if all(program.is_healthy for program in self._programs):
                return
            self.cold_starts += 1
            self._place.say(f"{self.label}: a cold start")
            try:
                await self._start_all()
            except DeployError as error:
                raise Refusal(503, "ServiceUnavailable", str(error)) from error

    async def _cool(self) -> None:
        await asyncio.sleep(SERVERLESS_IDLE)
        async with self._starting:
            if not self._under_way:
                await self._stop_all()
