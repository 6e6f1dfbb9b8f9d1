"""Answers OpenAI's requests: finds out whether the model is a language model, asks it, and writes what it says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson

from serve.errors import BadRequest, MethodNotAllowed, TritonFailed, Unavailable, show
from serve.formats.json_format import parse_json, to_json
from serve.http1.request import Request
from serve.settings import Settings
from serve.triton.failures import failure, is_gone
from serve.triton.pool import TritonResponse
from serve.triton.stream import TritonStream
from serve.worker.answers import Streamed, Whole
from serve.worker.bodies import RequestBody
from serve.worker.call import Call
from serve.worker.off_loop import off_loop
from serve.worker.openai.answered import Answered, error_body
from serve.worker.openai.asked import read_asked
from serve.worker.pass_through import EVENT, PassThrough
from serve.worker.recommendations import Recommenders

CHAT, MODELS = b"/v1/chat/completions", b"/v1/models"


class OpenAI:
    """The language models of one worker: those with the inputs and outputs of Triton's vLLM backend."""

    def __init__(self, passing: PassThrough, recommenders: Recommenders, settings: Settings) -> None:
        self.passing = passing
        self.recommenders = recommenders
        self.settings = settings

    async def path(self, request: Request, call: Call) -> Whole | Streamed:
        """The answer to a request for one of OpenAI's own paths. Raises ServeError."""
        call.error_body = error_body
        method = "GET" if request.path == MODELS else "POST"
        if request.method != method:
            raise MethodNotAllowed(f"{request.method} {request.path.decode()} is not possible; use {method}", method)
        if method == "GET":
            return await self.models()
        call.kind = "none"
        content = RequestBody(request, self.settings.max_body_bytes)
        await content.head()
        body = await content.whole()
        document = await off_loop(len(body), parse_json, body)
        if not isinstance(document, dict):
            raise BadRequest(f"the body is {show(document)}; it must be an object")
        wanted = "messages" if request.path == CHAT else "prompt"
        if wanted not in document:
            raise BadRequest(f"{wanted} is missing")
        model = self.recommenders.choose(document.get("model"), call.headers)
        return await self.answer(request, call, model, document)

    async def models(self) -> Whole:
        """The language models that can be asked, as OpenAI lists models."""
        # One after another: asked all at once, hundreds of models would keep the requests of other callers waiting.
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "serve"}
                  for name in self.passing.served.current().models if await self._inputs(name)]  # fmt: skip
        return _json(to_json({"object": "list", "data": listed}))

    async def answer(self, request: Request, call: Call, model: str, document: dict[str, Any]) -> Whole | Streamed:
        """The answer to a request for a chat, which has `messages`, or for a completion. Raises ServeError."""
        call.error_body = error_body
        call.enter(model)
        call.kind = "generate"
        chat = "messages" in document
        request.cancel = True  # a caller whose connection is lost frees its place in the model
        asked = read_asked(document, chat)
        inputs = await self._inputs(model)
        if inputs is None:
            raise Unavailable(f"{model} is not ready; the log of the server says why")
        if not inputs:
            raise BadRequest(f"{model} is no language model; one has text_input and text_output, as with Triton's vLLM")
        if chat and "messages" not in inputs:
            raise BadRequest(f"{model} takes no messages, only texts; send a prompt to /v1/completions")
        stream = await self.passing.stream(call, model, to_json(asked.document))
        if isinstance(stream, TritonResponse):
            gone = await is_gone(self.passing.triton, f"/v2/models/{model}/generate_stream", stream)
            raise failure(model, stream, self.settings.multi_model, gone)
        answered = Answered(chat, call.id, model)
        events = _events(stream)
        if asked.stream:
            header = (b"content-type", b"text/event-stream; charset=utf-8")
            return Streamed(200, [header], answered.chunks(events, asked.include_usage), stream.close)
        async with aclosing(events):
            async for event in events:
                if "error" in event:
                    raise TritonFailed(f"{model}: {event['error']}")
                return _json(answered.whole(event))
        raise TritonFailed(f"{model} ended without an answer")

    async def _inputs(self, model: str) -> frozenset[str] | None:
        """The names of a language model's inputs, none for another model; None for one that Triton has not loaded."""
        if model in self.passing.served.last.recommenders:
            return frozenset()
        answer = await self.passing.triton.request(b"GET", f"/v2/models/{model}")
        if answer.status != 200:
            return None
        told = orjson.loads(answer.body)
        inputs, outputs = ({each["name"] for each in told[kind]} for kind in ("inputs", "outputs"))
        return frozenset(inputs if "text_input" in inputs and "text_output" in outputs else ())


async def _events(stream: TritonStream) -> AsyncGenerator[dict[str, Any], None]:
    """The events of a stream; it is closed after the last event, or when this generator is closed."""
    try:
        rest = b""
        while part := await stream.next():
            *whole, rest = (rest + part).split(b"\n\n")
            for event in whole:
                yield orjson.loads(event.removeprefix(EVENT))
    finally:
        stream.close()


def _json(body: bytes) -> Whole:
    return Whole(200, [(b"content-type", b"application/json")], body)
