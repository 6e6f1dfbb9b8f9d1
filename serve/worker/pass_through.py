"""Passes bodies on to Triton as they are, and its answers back: KServe-v2 in JSON or binary, and generate."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import orjson

from serve.errors import BadRequest, NotAcceptable, Unavailable
from serve.formats import kserve
from serve.formats.json_format import MAX_ERROR, Loose, error_json, parse_json, to_json
from serve.models.served import ServedFile
from serve.settings import Settings
from serve.triton.failures import NOT_READ, failure, is_gone, message_of
from serve.triton.pool import TritonPool, TritonResponse
from serve.triton.stream import TritonStream
from serve.worker.answers import Streamed, Whole
from serve.worker.call import Call
from serve.worker.off_loop import off_loop

EVENT = b"data: "
# Triton's word for the code of a model's error that is the caller's. Its generate extension leaves the code out, so a
# model that answers in parts begins its message with it.
INVALID = b'data: {"error":"Invalid argument'
JSON_HEADER = b"Content-Type: application/json\r\n"


class PassThrough:
    """Passes the requests of one worker on to Triton; their model is chosen already."""

    def __init__(self, settings: Settings, served: ServedFile, triton: TritonPool) -> None:
        self.settings = settings
        self.served = served
        self.triton = triton
        self.repository = (settings.multi_model_root if settings.multi_model else settings.model_repository).absolute()

    async def json(self, call: Call, model: str, document: dict[str, Any], body: bytes) -> Whole:
        """A KServe-v2 body in JSON, and the document it is. Triton passes over fields it does not know, such as our
        `model`."""
        kserve.check_kserve(document, len(body))
        call.kind = "kserve"
        return await self.infer(call, model, body, None)

    async def document(self, call: Call, model: str, document: dict[str, Any]) -> dict[str, Any]:
        """The answer to one of several KServe-v2 documents. Raises ServeError."""
        body = document.raw if isinstance(document, Loose) else to_json(document)
        kserve.check_kserve(document, len(body))
        status, _, answer = await self.infer(call, model, body, None)
        if status != 200:
            raise failure(model, TritonResponse(status, answer), self.settings.multi_model)
        try:
            found: dict[str, Any] = orjson.loads(answer)
        except orjson.JSONDecodeError as error:  # binary outputs were asked for, or a number is NaN
            raise NotAcceptable(
                f"{model}'s answer is not JSON, which is the form of an answer to many lines"
            ) from error
        return found

    async def binary(self, call: Call, model: str, document: Any, body: bytes, header_length: int) -> Whole:
        """A KServe-v2 body in Triton's binary form; with a JSON part of 0 bytes it is one raw tensor."""
        if header_length:
            kserve.check_kserve(document, len(body))
        call.kind = "binary"
        return await self.infer(call, model, body, header_length)

    async def infer(self, call: Call, name: str, body: bytes, header_length: int | None) -> Whole:
        """A checked body to a model, and the model's answer.

        A recommender's part is asked for its live version; if another version went live meanwhile, for that one.
        """
        extra = call.forwarded
        version = self.served.last.versions.get(name)  # the model was chosen a moment ago
        path = infer_path(name, version)
        answer = await self.triton.request(b"POST", path, body, header_length, extra)
        if answer.status in (404, 503) and (now := self.served.current().versions.get(name)) != version:
            path = infer_path(name, now)
            answer = await self.triton.request(b"POST", path, body, header_length, extra)
        if answer.status >= 400:
            # A traceback names files as Triton sees them.
            answer.body = answer.body.replace(b"%b/" % bytes(self.served.view), b"%b/" % bytes(self.repository))
            await self.check_failure(name, path, answer, body[:header_length])
            if len(answer.body) > MAX_ERROR:
                answer.body = error_json(message_of(answer))
        if answer.header_length is None:
            return Whole(answer.status, [(b"content-type", answer.content_type)], answer.body)
        headers = [
            (b"content-type", b"%s;json-header-size=%d" % (kserve.BINARY, answer.header_length)),
            (b"inference-header-content-length", b"%d" % answer.header_length),
        ]
        return Whole(answer.status, headers, answer.body)

    async def generate(self, call: Call, model: str, body: bytes) -> Whole | Streamed:
        """A body to Triton's generate extension; a stream of events is passed on as it comes."""
        call.kind = "generate"
        if kserve.may_be_deep(body):
            parse_json(body, "the body")  # raises BadRequest for a body that is nested too deep
        if self.settings.inference_type == "generate":
            path = f"/v2/models/{model}/generate"
            answer = await self.triton.request(b"POST", path, body, None, JSON_HEADER + call.forwarded)
            if answer.status == 200 and answer.body.startswith(b'{"error":'):  # the model made more than one response
                answer.status = 500
            return await self._checked(model, path, answer, body)
        stream = await self.stream(call, model, body)
        if isinstance(stream, TritonResponse):
            return await self._checked(model, f"/v2/models/{model}/generate_stream", stream, body)
        return Streamed(stream.status, [(b"content-type", stream.content_type)], _events(stream), stream.close)

    async def stream(self, call: Call, model: str, body: bytes) -> TritonStream | TritonResponse:
        """The events of a model's answer, which the caller has to close; or its error, if that is the first of them."""
        path = f"/v2/models/{model}/generate_stream"
        stream = await TritonStream.open(self.triton.address, path, body, JSON_HEADER + call.forwarded)
        try:
            if stream.status < 400:
                return stream
            event = await stream.all()  # nothing has been sent: the error is the answer, and not an event
        except BaseException:
            stream.close()
            raise
        stream.close()
        # An event's error is the model's, and has the status 400 whatever it is.
        status = 500 if event.startswith(EVENT) and not event.startswith(INVALID) else stream.status
        return TritonResponse(status, event.removeprefix(EVENT).rstrip())

    async def _checked(self, model: str, path: str, answer: TritonResponse, body: bytes) -> Whole:
        """The answer to a body in JSON, or Triton's failure. Raises ServeError like `check_failure`."""
        if answer.status >= 400:
            await self.check_failure(model, path, answer, body)
            if len(answer.body) > MAX_ERROR:
                answer.body = error_json(message_of(answer))
        return Whole(answer.status, [(b"content-type", answer.content_type)], answer.body)

    async def check_failure(self, model: str, path: str, answer: TritonResponse, body: bytes) -> None:
        """Raise what Triton's failure means, unless its own answer says that already: then it is passed on as it is.

        `body` is the JSON that Triton was to read at `path`, empty if there was none.
        """
        gone = await is_gone(self.triton, path, answer)
        error = failure(model, answer, self.settings.multi_model, gone)
        if body and answer.status == 500 and NOT_READ.match(message_of(answer)):
            document = await off_loop(len(body), parse_json, body)  # says where the mistake is
            if not (path.endswith("/infer") and await off_loop(len(body), kserve.is_readable, document)):
                raise BadRequest(str(error))
        if isinstance(error, Unavailable) or answer.status != error.status:
            raise error


def infer_path(name: str, version: int | None) -> str:
    return f"/v2/models/{name}/infer" if version is None else f"/v2/models/{name}/versions/{version}/infer"


async def _events(stream: TritonStream) -> AsyncGenerator[bytes, None]:
    """The events of a stream, which the caller closes."""
    while part := await stream.next():
        yield part
