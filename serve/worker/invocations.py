"""The data plane: /ping, /invocations and /models/M/invoke, async, nothing on the way that is not needed."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from serve.errors import (
    BadRequest,
    MethodNotAllowed,
    Overloaded,
    ServeError,
    Unavailable,
    UnknownModel,
    UnsupportedMediaType,
    show,
)
from serve.formats import kserve
from serve.formats import registry as codec
from serve.formats.json_format import Answer
from serve.http1 import compression
from serve.http1.accept import accepts_gzip
from serve.http1.request import Request
from serve.http1.state import ServerState
from serve.models.served import ServedFile
from serve.settings import Settings
from serve.telemetry.counts import Tally
from serve.triton.pool import TritonPool
from serve.worker.line_answers import SHORT_BYTES, answer_lines, lines_of, send_file
from serve.worker.pass_through import VISIBLE, PassThrough, echoed, forwarded
from serve.worker.recommendations import INFERENCE_ID, Call, Recommenders
from serve.worker.target_model import TARGET_MODEL

# SageMaker gives /ping two seconds.
PING_SECONDS = 1.5


class DataPlane:
    """Answers requests for the paths in `PATHS`, and /models/M/invoke."""

    PATHS = frozenset((b"/ping", b"/ping/", b"/invocations"))

    def __init__(
        self,
        settings: Settings,
        state: ServerState,
        served: ServedFile,
        triton: TritonPool,
        health: TritonPool,
        tally: Tally,
    ) -> None:
        """`health` is a pool for /ping alone: it must not wait behind requests for inference."""
        self.settings = settings
        self.state = state
        self.served = served
        self.triton = triton
        self.health = health
        self.recommenders = Recommenders(settings, served, triton)
        self.passing = PassThrough(settings, served, triton)
        self.tally = tally
        self.under_way: dict[str, int] = {}  # requests by model
        prefix = os.urandom(6).hex()
        self.request_ids = (f"{prefix}-{number}" for number in itertools.count(1))

    async def __call__(self, request: Request) -> None:
        """Answer a request. Raises ServeError."""
        if request.path == b"/invocations":
            if request.method != "POST":
                raise MethodNotAllowed(f"{request.method} /invocations is not possible; use POST", "POST")
            await self.invoke(request, None)
        elif request.path.startswith(b"/ping"):
            await self.ping(request)
        else:
            if request.method != "POST":
                raise MethodNotAllowed(f"{request.method} /models/…/invoke is not possible; use POST", "POST")
            name = self.loaded(request)
            try:
                await self.invoke(request, name)
            except ServeError as error:
                if name not in self.served.current().models:  # it was unloaded meanwhile
                    raise UnknownModel(f"model {name} is not loaded any more") from error
                raise

    async def ping(self, request: Request) -> None:
        """200 with an empty body when requests can be answered: the first loading is over, and the default model, or at
        least one model where there is no default, is ready. A model that failed to load costs only itself. A
        multi-model endpoint is well with no model at all."""
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
        mode = self.settings.ping_mode or ("live" if self.settings.multi_model else "ready")
        if mode == "live":
            return (await self.health.request(b"GET", "/v2/health/live")).status == 200
        served = self.served.current()
        if not served.ready:
            return False
        unreadable = self.served.unreadable()
        if not unreadable and (await self.health.request(b"GET", "/v2/health/ready")).status == 200:
            return True
        answer = await self.health.index()
        if answer.status != 200:
            return False
        ready = {
            (model["name"], model.get("version"))
            for model in orjson.loads(answer.body)
            if model.get("state") == "READY"
        }
        default = self.settings.default_model_name or served.default
        # Of a recommender's parts the live version counts, of other models any.
        live = {name for name, version in ready if version == str(served.versions.get(name, version))}
        live -= (served.max_batch_size.keys() - served.versions.keys()) | unreadable
        return default in live if default else bool(live)

    def loaded(self, request: Request) -> str:
        """The model of /models/M/invoke. Raises UnknownModel, or BadRequest if Target-Model names another."""
        served = self.served.current()
        name = unquote_to_bytes(request.path[len("/models/") : -len("/invoke")]).decode("latin-1")
        if not self.settings.multi_model:
            raise UnknownModel(
                f"{show(name)} is not loaded, for multi-model mode is off; inference is POST /invocations"
            )
        if name not in served.models:
            raise UnknownModel(f"model {show(name)} is not loaded; POST /models loads one")
        served.check_target(name, request.headers.get(TARGET_MODEL, b"").decode("latin-1"))
        return name

    def enter(self, request: Request, name: str) -> None:
        """Count a request to a model as under way, until `leave`. Raises Overloaded if there are too many."""
        if name in request.entered:  # it has a place
            return
        count = self.under_way.get(name, 0)
        request.model = request.model or name
        if count >= self.settings.max_in_flight:
            self.tally.shed(name)
            raise Overloaded(f"{name} has {count:,} requests under way (SERVE_MAX_IN_FLIGHT); try again shortly")
        self.under_way[name] = count + 1
        request.entered += (name,)
        self.tally.begin(name)

    def leave(self, request: Request) -> None:
        """A request is over, however it ended."""
        for name in request.entered:
            self.under_way[name] -= 1
            self.tally.done(name)

    def request_id(self, request: Request) -> str:
        """The caller's X-Amzn-SageMaker-Inference-Id if it can be repeated (VISIBLE), else an id of ours."""
        if not request.id:
            given = request.headers.get(INFERENCE_ID, b"")
            request.id = given.decode() if VISIBLE.fullmatch(given) else next(self.request_ids)
        return request.id

    async def invoke(self, request: Request, name: str | None) -> None:
        """Answer one request for inference; `name` is the model where the path decides it."""
        request.kind = "none"
        headers = request.headers
        asked = None
        if b"content-encoding" not in headers:
            first = request.chunks[0] if request.chunks else await request.peek(self.settings.max_body_bytes)
            if b"\n" in first or not request.complete:
                asked = self.line_format(headers, first)
                if asked is not None and self.is_long(request, first):
                    await self.answer_lines(request, name, asked)
                    return
        body = await request.body(self.settings.max_body_bytes)
        if b"content-encoding" in headers:
            body = compression.unpack(body, headers[b"content-encoding"], self.settings.max_body_bytes)
        if self.settings.inference_type != "infer" and (model := self.generator(name, headers)) is not None:
            self.enter(request, model)
            await self.passing.generate(request, body)
            return
        header_length = kserve.binary_header_length(headers, len(body))
        if header_length is not None:
            document = codec.parse_json(body[:header_length], "the JSON part") if header_length else {}
            model, changed = self.choose(request, name, document)
            status, answered, answer = await self.passing.binary(request, model, document, body, header_length, changed)
        elif asked is None and kserve.is_plain(body):
            model = name or self.recommenders.choose(None, headers)
            self.enter(request, model)
            status, answered, answer = await self.passing.infer(request, model, body, None)
        else:
            asked, decoded = self.decode(headers.get(b"content-type"), body, asked)
            document = decoded.requests[0]
            if not decoded.many and type(document) is dict and "inputs" in document:
                model, changed = self.choose(request, name, document)
                status, answered, answer = await self.passing.json(request, model, document, body, changed)
            else:
                request.kind = "recommend"
                wanted = codec.answer_format(headers.get(b"accept"), asked)
                answers = await self.answer(request, name, decoded)
                status, answered, answer = 200, [(b"content-type", wanted.header)], wanted.encode(answers, decoded.many)
        if len(answer) >= compression.MIN_GZIP_BYTES and accepts_gzip(headers.get(b"accept-encoding")):
            answer = compression.pack(answer)
            answered.append((b"content-encoding", b"gzip"))
        request.respond(status, answered + echoed(headers), answer)

    def line_format(self, headers: dict[bytes, bytes], first: bytes) -> codec.Format | None:
        """The format of a body that begins like this, if it is one of a record a line, else None."""
        if self.settings.inference_type != "infer" or kserve.is_binary(headers):
            return None
        try:
            asked = lines_of(first, codec.request_format(headers.get(b"content-type"), first))
        except UnsupportedMediaType:
            asked = lines_of(first, codec.JSON)
        return asked if asked in (codec.JSON_LINES, codec.CSV) else None

    def is_long(self, request: Request, first: bytes) -> bool:
        """Whether a body with a record a line is answered in slices."""
        if self.settings.in_batch or not request.complete or request.size > SHORT_BYTES:
            return True
        return first.count(b"\n") > self.settings.max_list_items

    async def answer_lines(self, request: Request, name: str | None, asked: codec.Format) -> None:
        """Answer a long body with a record a line."""
        request.kind, request.cancel = "lines", True
        wanted = codec.answer_format(request.headers.get(b"accept"), asked)
        limit, max_work = self.settings.max_body_bytes, min(50_000, self.settings.max_work)
        file = await answer_lines(
            request, asked, wanted, limit, max_work, lambda decoded: self.answer(request, name, decoded)
        )
        with file:
            await send_file(request, [(b"content-type", wanted.header), *echoed(request.headers)], file)

    async def answer(self, request: Request, name: str | None, decoded: codec.Decoded) -> list[Answer]:
        """The answers to a body's requests, in order; of several, KServe-v2 ones go to Triton each for itself."""
        call = self.call(request)
        if not decoded.many:
            return await self.recommenders.answer(decoded, call, name)
        passed = [at for at, each in enumerate(decoded.requests) if type(each) is dict and "inputs" in each]
        if not passed:
            return await self.recommenders.answer(decoded, call, name)
        answers = await asyncio.gather(*(self.answer_kserve(request, name, decoded.requests[at]) for at in passed))
        placed = dict(zip(passed, answers, strict=True))
        rest = [each for at, each in enumerate(decoded.requests) if at not in placed]
        others = iter(await self.recommenders.answer(codec.Decoded(rest, True), call, name) if rest else ())
        return [placed[at] if at in placed else next(others) for at in range(len(decoded.requests))]

    async def answer_kserve(self, request: Request, name: str | None, document: dict[str, Any]) -> Answer:
        """Triton's answer to one of several KServe-v2 requests, or what is wrong with it."""
        try:
            model, _ = self.choose(request, name, document)
            return await self.passing.document(request, model, document)
        except ServeError as error:
            described = {"code": error.code, "message": str(error)}
            return {"error": described, "request_id": self.request_id(request)}

    def choose(self, request: Request, name: str | None, document: Any) -> tuple[str, bool]:
        """Enter the model that a KServe-v2 body means; -> it, and whether our own field `model` was taken out."""
        named = isinstance(document, dict) and "model" in document
        asked = document.pop("model") if named else None
        model = name or self.recommenders.choose(asked, request.headers)
        self.enter(request, model)
        return model, named

    def call(self, request: Request) -> Call:
        """What the recommenders need to know of a request."""
        headers = request.headers
        return Call(headers, self.request_id(request), forwarded(headers), lambda name: self.enter(request, name))

    def decode(
        self, content_type: bytes | None, body: bytes, asked: codec.Format | None
    ) -> tuple[codec.Format, codec.Decoded]:
        """The format of a body, if it is not known, and the requests in it."""
        try:
            asked = asked or codec.request_format(content_type, body)
        except UnsupportedMediaType:  # but KServe-v2 is taken under any type, as SageMaker's examples send it
            if not codec.is_json_object(body):
                raise
            decoded = codec.JSON.decode(body, self.settings.max_list_items)
            if decoded.many or "inputs" not in decoded.requests[0]:
                raise
            return codec.JSON, decoded
        return asked, asked.decode(body, self.settings.max_list_items)

    def generator(self, name: str | None, headers: dict[bytes, bytes]) -> str | None:
        """The model that SAGEMAKER_TRITON_INFERENCE_TYPE is meant for, None where a recommender is asked."""
        served = self.served.current()
        try:
            model = name or self.recommenders.choose(None, headers)
        except BadRequest:  # several, and only the body may say which
            return None
        return None if model in served.recommenders else model
