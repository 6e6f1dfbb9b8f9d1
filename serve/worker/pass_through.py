"""Bodies that go on to Triton as they are, and its answers back: KServe-v2 in JSON or binary, and generate."""

from __future__ import annotations

import re
from typing import Any

import orjson

from serve.errors import BadRequest, NotAcceptable, TritonFailed, Unavailable
from serve.formats import kserve
from serve.formats import registry as codec
from serve.formats.json_format import MAX_ERROR, error_json
from serve.http1.request import Headers, Request
from serve.models.served import ServedFile
from serve.settings import Settings
from serve.triton.failures import failure, message_of
from serve.triton.pool import TritonPool, TritonResponse
from serve.triton.stream import TritonStream
from serve.worker.recommendations import INFERENCE_ID
from serve.worker.target_model import CUSTOM_ATTRIBUTES

JSON_TYPE = b"application/json"
# What a caller sends and gets back (RTAPI): at most 1,024 visible ASCII characters.
ECHOED = frozenset((CUSTOM_ATTRIBUTES, INFERENCE_ID))
VISIBLE = re.compile(rb"[\x20-\x7e]{1,1024}")
# What Triton gets of a caller's headers: the trace it belongs to, and the attributes, as parameters of the request.
FORWARDED = frozenset((b"traceparent", b"tracestate", CUSTOM_ATTRIBUTES))
EVENT = b"data: "

Answered = tuple[int, Headers, bytes]


def echoed(headers: dict[bytes, bytes]) -> Headers:
    """The headers of a request that its answer repeats."""
    if ECHOED.isdisjoint(headers):  # most requests
        return []
    return [(name, headers[name]) for name in ECHOED if name in headers and VISIBLE.fullmatch(headers[name])]


def forwarded(headers: dict[bytes, bytes]) -> bytes:
    """The headers of a request that Triton gets, as they stand in a request's head."""
    if FORWARDED.isdisjoint(headers):  # most requests
        return b""
    found = [name for name in FORWARDED if name in headers and VISIBLE.fullmatch(headers[name])]
    return b"".join(b"%b: %b\r\n" % (name, headers[name]) for name in found)


class PassThrough:
    """What one worker passes on to Triton, for requests whose model is chosen."""

    def __init__(self, settings: Settings, served: ServedFile, triton: TritonPool) -> None:
        self.settings = settings
        self.served = served
        self.triton = triton
        self.repository = (settings.multi_model_root if settings.multi_model else settings.model_repository).absolute()

    async def json(
        self, request: Request, model: str, document: dict[str, Any], body: bytes, changed: bool
    ) -> Answered:
        """A KServe-v2 body in JSON; where `document` is not what `body` says any more, it is written anew."""
        kserve.check_kserve(document, len(body))
        return await self.infer(request, model, codec.to_json(document) if changed else body, None)

    async def document(self, request: Request, model: str, document: dict[str, Any]) -> dict[str, Any]:
        """The answer to one of several KServe-v2 documents. Raises ServeError."""
        body = codec.to_json(document)
        kserve.check_kserve(document, len(body))
        kind = request.kind
        status, _, answer = await self.infer(request, model, body, None)
        request.kind = kind
        try:
            found: dict[str, Any] = orjson.loads(answer)
        except orjson.JSONDecodeError as error:  # binary outputs were asked for, or a number is NaN
            raise NotAcceptable(
                f"{model}'s answer is not JSON, which is the form of an answer to many lines"
            ) from error
        if status != 200:
            message = f"{model}: {found.get('error', status)}"
            raise BadRequest(message) if status < 500 else TritonFailed(message)
        return found

    async def binary(
        self, request: Request, model: str, document: Any, body: bytes, header_length: int, changed: bool
    ) -> Answered:
        """A KServe-v2 body in Triton's binary form; with a JSON part of 0 bytes it is one raw tensor."""
        if header_length:
            kserve.check_kserve(document, len(body))
        if changed:
            header = codec.to_json(document)
            body, header_length = header + body[header_length:], len(header)
        return await self.infer(request, model, body, header_length)

    async def infer(self, request: Request, name: str, body: bytes, header_length: int | None) -> Answered:
        """A checked body to a model, and the model's answer.

        A recommender's part is asked for its live version; if that was unloaded in this moment, for the next one.
        """
        request.kind = "kserve" if header_length is None else "binary"
        extra = forwarded(request.headers)
        version = self.served.last.versions.get(name)  # the model was chosen a moment ago
        answer = await self.triton.request(b"POST", infer_path(name, version), body, header_length, extra)
        if answer.status in (404, 503) and (now := self.served.current().versions.get(name)) != version:
            answer = await self.triton.request(b"POST", infer_path(name, now), body, header_length, extra)
        if answer.status >= 400:
            # A traceback names files as Triton sees them.
            answer.body = answer.body.replace(b"%b/" % bytes(self.served.view), b"%b/" % bytes(self.repository))
            self.check_failure(name, answer, body if header_length is None else b"{}")
            if len(answer.body) > MAX_ERROR:
                answer.body = error_json(message_of(answer))
        if answer.header_length is None:
            return answer.status, [(b"content-type", answer.content_type)], answer.body
        headers = [
            (b"content-type", b"%s;json-header-size=%d" % (kserve.BINARY, answer.header_length)),
            (b"inference-header-content-length", b"%d" % answer.header_length),
        ]
        return answer.status, headers, answer.body

    async def generate(self, request: Request, body: bytes) -> None:
        """A body to Triton's generate extension; a stream of events is passed on as it comes."""
        request.kind = "generate"
        path = f"/v2/models/{request.model}/{self.settings.inference_type}"
        if kserve.may_be_deep(body):
            codec.parse_json(body, "the body")  # which refuses what is nested too deep
        extra = b"Content-Type: application/json\r\n" + forwarded(request.headers)
        if self.settings.inference_type == "generate":
            answer = await self.triton.request(b"POST", path, body, None, extra)
            if answer.status == 200 and answer.body.startswith(b'{"error":'):  # Triton's way to say "more than one"
                answer.status = 500
            self.respond(request, answer, body)
            return
        request.cancel = True
        stream = await TritonStream.open(self.triton.address, path, body, extra)
        try:
            if stream.status >= 400:  # nothing has been sent: the error is the answer, not an event
                failure = await stream.all()
                status = 500 if failure.startswith(EVENT) else stream.status  # the model's, not the caller's
                self.respond(request, TritonResponse(status, failure.removeprefix(EVENT).rstrip()), body)
                return
            request.start(stream.status, [(b"content-type", stream.content_type), *echoed(request.headers)])
            while part := await stream.next():
                await request.write(part)
        finally:
            stream.close()
        request.end()

    def respond(self, request: Request, answer: TritonResponse, body: bytes) -> None:
        if answer.status >= 400:
            self.check_failure(request.model, answer, body)
            if len(answer.body) > MAX_ERROR:
                answer.body = error_json(message_of(answer))
        request.respond(answer.status, [(b"content-type", answer.content_type), *echoed(request.headers)], answer.body)

    def check_failure(self, model: str, answer: TritonResponse, body: bytes) -> None:
        """Raise what Triton's failure means, unless its own answer says that already: then it is passed on as it is."""
        error = failure(model, answer, self.settings.multi_model)
        if isinstance(error, BadRequest) and answer.status != error.status:
            codec.parse_json(body, "the body")  # says where the mistake is
        if isinstance(error, Unavailable) or answer.status != error.status:
            raise error


def infer_path(name: str, version: int | None) -> str:
    return f"/v2/models/{name}/infer" if version is None else f"/v2/models/{name}/versions/{version}/infer"
