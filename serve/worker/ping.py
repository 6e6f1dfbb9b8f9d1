"""GET /ping: whether requests can be answered."""

from __future__ import annotations

import asyncio

import orjson

from serve.errors import MethodNotAllowed, Unavailable
from serve.http1.request import Request
from serve.http1.state import ServerState
from serve.models.served import ServedFile
from serve.settings import Settings
from serve.triton.pool import TritonPool

# SageMaker waits two seconds for the answer.
PING_SECONDS = 1.5


class Ping:
    """Answers /ping; its pool is for /ping alone, so that it does not wait behind requests for inference."""

    def __init__(self, settings: Settings, state: ServerState, served: ServedFile, triton: TritonPool) -> None:
        self.settings = settings
        self.state = state
        self.served = served
        self.triton = triton

    async def __call__(self, request: Request) -> None:
        """200 with an empty body when requests can be answered: the first loading is over, and the default model, or
        any model if there is no default, is ready. A model that failed to load does not matter to the others. A
        multi-model endpoint needs no model at all.

        Raises MethodNotAllowed and Unavailable.
        """
        if request.method not in ("GET", "HEAD", "POST"):
            raise MethodNotAllowed(f"{request.method} /ping is not possible; use GET", "GET, HEAD, POST")
        if self.state.draining:
            raise Unavailable("the server is stopping")
        try:
            ready = await asyncio.wait_for(self.ready(), PING_SECONDS)
        except asyncio.TimeoutError:
            raise Unavailable(f"the inference server did not answer within {PING_SECONDS} s") from None
        if not ready:
            raise Unavailable("no model is ready yet")
        request.respond(200, [(b"content-type", b"text/plain")], b"")

    async def ready(self) -> bool:
        """Whether Triton and this worker can answer requests. Raises Unavailable."""
        mode = self.settings.ping_mode or ("live" if self.settings.multi_model else "ready")
        if mode == "live":
            return (await self.triton.request(b"GET", "/v2/health/live")).status == 200
        served = self.served.current()
        if not served.ready:
            return False
        unreadable = self.served.unreadable()
        if not unreadable and (await self.triton.request(b"GET", "/v2/health/ready")).status == 200:
            return True
        answer = await self.triton.index()
        if answer.status != 200:
            return False
        ready = {
            (model["name"], model.get("version"))
            for model in orjson.loads(answer.body)
            if model.get("state") == "READY"
        }
        default = self.settings.default_model_name or served.default
        # A part of a recommender must be ready in its live version, any other model in any version.
        live = {name for name, version in ready if version == str(served.versions.get(name, version))}
        live -= (served.max_batch_size.keys() - served.versions.keys()) | unreadable
        return default in live if default else bool(live)
