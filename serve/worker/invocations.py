"""The data plane: /ping, /invocations, /models/M/invoke, OpenAI's paths; asynchronous, with little work on the way."""

from __future__ import annotations

import asyncio
import itertools
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from serve.errors import BadRequest, MethodNotAllowed, ServeError, UnknownModel, UnsupportedMediaType, show
from serve.formats import kserve
from serve.formats.json_format import Decoded, parse_json
from serve.formats.registry import FORMATS_FOR_LINES, JSON, Format
from serve.http1.request import Request
from serve.http1.state import ServerState
from serve.models.served import ServedFile
from serve.recommend.asks import FIELDS, Answer
from serve.settings import Settings
from serve.telemetry.counts import Tally
from serve.triton.pool import TritonPool
from serve.worker.answers import Stored, Streamed, Whole, send
from serve.worker.bodies import RequestBody
from serve.worker.call import Call, Places
from serve.worker.line_answers import answer_lines
from serve.worker.negotiation import answer_format, classify
from serve.worker.off_loop import off_loop
from serve.worker.pass_through import PassThrough
from serve.worker.ping import Ping
from serve.worker.recommendations import Recommenders
from serve.worker.sagemaker_headers import TARGET_MODEL

if TYPE_CHECKING:
    from serve.worker.openai.paths import OpenAI

# The most work of a slice of lines; more would keep the worker from other requests for too long.
SLICE_WORK = 50_000
OPENAI_PATHS = (b"/v1/chat/completions", b"/v1/completions", b"/v1/models")
# No request for recommendations has one of the first, none of OpenAI's one of the others.
OPENAI_FIELDS, OTHER_FIELDS = {"messages", "prompt"}, FIELDS.keys() - {"model"}


class DataPlane:
    """Answers requests for the paths in `PATHS`, and /models/M/invoke."""

    PATHS = frozenset((b"/ping", b"/ping/", b"/invocations", *OPENAI_PATHS))

    def __init__(
        self,
        settings: Settings,
        state: ServerState,
        served: ServedFile,
        triton: TritonPool,
        health: TritonPool,
        tally: Tally,
    ) -> None:
        """`health` is a pool for /ping alone."""
        self.settings = settings
        self.served = served
        self.ping = Ping(settings, state, served, health)
        self.recommenders = Recommenders(settings, served, triton)
        self.passing = PassThrough(settings, served, triton)
        self.places = Places(settings.max_in_flight, tally)
        prefix = os.urandom(6).hex()
        self._ids = (f"{prefix}-{number}" for number in itertools.count(1))

    def call(self, request: Request) -> Call:
        """The record of a new request."""
        return Call(request.headers, self.places, self._ids)

    @cached_property
    def openai(self) -> OpenAI:
        """Answers OpenAI's requests; its code is loaded by the first of them."""
        from serve.worker.openai.paths import OpenAI

        return OpenAI(self.passing, self.recommenders, self.settings)

    async def __call__(self, request: Request, call: Call) -> None:
        """Answer a request. Raises ServeError."""
        if request.path == b"/invocations":
            if request.method != "POST":
                raise MethodNotAllowed(f"{request.method} /invocations is not possible; use POST", "POST")
            await self.invoke(request, call, None)
        elif request.path.startswith(b"/ping"):
            await self.ping(request)
        elif request.path in OPENAI_PATHS:
            await send(request, await self.openai.path(request, call))
        else:
            if request.method != "POST":
                raise MethodNotAllowed(f"{request.method} /models/…/invoke is not possible; use POST", "POST")
            name = self.loaded(request)
            try:
                await self.invoke(request, call, name)
            except ServeError as error:
                if name not in self.served.current().models:  # it was unloaded meanwhile
                    raise UnknownModel(f"model {name} is not loaded any more") from error
                raise

    def loaded(self, request: Request) -> str:
        """The model of /models/M/invoke. Raises UnknownModel, or BadRequest if Target-Model names another model."""
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

    async def invoke(self, request: Request, call: Call, name: str | None) -> None:
        """Answer one request for inference; `name` is the model if the path names it."""
        call.kind = "none"
        answer: Whole | Stored | Streamed
        body = RequestBody(request, self.settings.max_body_bytes)
        head = await body.head()
        if self.settings.inference_type != "infer" and (model := self.generator(call, name)) is not None:
            call.enter(model)
            request.cancel = self.settings.inference_type == "generate_stream"
            answer = await self.passing.generate(call, model, await body.whole())
        else:
            kind, format, refused = classify(call.headers, head)
            if kind == "lines":
                request.cancel = True
                answer = await self.lines(call, name, body, format)
            elif kind == "binary":
                answer = await self.binary(call, name, await body.whole())
            else:
                answer = await self.document(request, call, name, await body.whole(), format, refused)
        await send(request, answer)

    async def lines(self, call: Call, name: str | None, body: RequestBody, format: Format) -> Whole | Stored:
        """The answer to a body with one record a line."""
        call.kind = "lines"
        wanted = answer_format(call.headers.get(b"accept"), format, FORMATS_FOR_LINES)
        max_work = min(SLICE_WORK, self.settings.max_work)
        answer = await answer_lines(
            body.parts(), format, wanted, max_work, lambda decoded: self.answers(call, name, decoded)
        )
        headers = [(b"content-type", wanted.header)]
        return Whole(200, headers, answer) if isinstance(answer, bytes) else Stored(headers, answer)

    async def binary(self, call: Call, name: str | None, body: bytes) -> Whole:
        """The answer to a KServe-v2 body in Triton's binary form."""
        header_length = kserve.binary_header_length(call.headers, len(body))
        header = body[:header_length]
        document = await off_loop(header_length, parse_json, header, "the JSON part") if header_length else {}
        model = self.choose(call, name, document)
        return await self.passing.binary(call, model, document, body, header_length)

    async def document(
        self, request: Request, call: Call, name: str | None, body: bytes, format: Format, refused: str
    ) -> Whole | Streamed:
        """The answer to a body with one document: KServe-v2, OpenAI's, a request, several requests, or an array."""
        if format is JSON and await off_loop(len(body), kserve.is_plain, body):
            model = name or self.recommenders.choose(None, call.headers)
            call.enter(model)
            call.kind = "kserve"
            return await self.passing.infer(call, model, body, None)
        assert format.decode is not None  # only formats with one record a line have none
        decoded = await off_loop(len(body), format.decode, body, self.settings.max_list_items)
        document = decoded.requests[0]
        if not decoded.many and isinstance(document, dict) and "inputs" in document:
            model = self.choose(call, name, document)
            return await self.passing.json(call, model, document, body)
        if refused:
            raise UnsupportedMediaType(refused)
        if type(document) is dict and not decoded.many and not OPENAI_FIELDS.isdisjoint(document):
            model = name or self.recommenders.choose(document.get("model"), call.headers)
            if model not in self.served.last.recommenders and OTHER_FIELDS.isdisjoint(document):
                return await self.openai.answer(request, call, model, document)
        call.kind = "recommend"
        wanted = answer_format(call.headers.get(b"accept"), format)
        answers = await self.answers(call, name, decoded)
        encoded = await off_loop(len(body), wanted.encode, answers, decoded.many)
        return Whole(200, [(b"content-type", wanted.header)], encoded)

    async def answers(self, call: Call, name: str | None, decoded: Decoded) -> list[Answer]:
        """The answers to a body's requests, in order. KServe-v2 documents among many go to Triton one by one."""
        if not decoded.many:
            return await self.recommenders.answer(decoded, call, name)
        passed = [at for at, each in enumerate(decoded.requests) if isinstance(each, dict) and "inputs" in each]
        if not passed:
            return await self.recommenders.answer(decoded, call, name)
        answers = await asyncio.gather(*(self.answer_kserve(call, name, decoded.requests[at]) for at in passed))
        placed = dict(zip(passed, answers, strict=True))
        rest = [each for at, each in enumerate(decoded.requests) if at not in placed]
        others = iter(await self.recommenders.answer(Decoded(rest, True), call, name) if rest else ())
        return [placed[at] if at in placed else next(others) for at in range(len(decoded.requests))]

    async def answer_kserve(self, call: Call, name: str | None, document: dict[str, Any]) -> Answer:
        """Triton's answer to one of several KServe-v2 documents, or what is wrong with the document."""
        try:
            model = self.choose(call, name, document)
            return await self.passing.document(call, model, document)
        except ServeError as error:
            described = {"code": error.code, "message": str(error)}
            return {"error": described, "request_id": call.id}

    def choose(self, call: Call, name: str | None, document: Any) -> str:
        """Enter the model of a KServe-v2 body; -> its name."""
        asked = document.get("model") if isinstance(document, dict) else None
        model = name or self.recommenders.choose(asked, call.headers)
        call.enter(model)
        return model

    def generator(self, call: Call, name: str | None) -> str | None:
        """The model that SAGEMAKER_TRITON_INFERENCE_TYPE is meant for, None if a recommender is asked."""
        try:
            model = name or self.recommenders.choose(None, call.headers)
        except BadRequest:  # there are several models, and only the body may name one of them
            return None
        return None if model in self.served.current().recommenders else model
