"""The data plane: /ping and /invocations, async, nothing on the way that is not needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from serve import codec, compression, kserve
from serve.errors import BadRequest, BodyTooLarge, MethodNotAllowed, ServeError, Unavailable, UnsupportedMediaType
from serve.recommenders import Recommenders, RequestHeaders, triton_message
from serve.served import ServedFile
from serve.settings import Settings
from serve.triton import TritonPool, TritonResponse

log = logging.getLogger("serve")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = list[tuple[bytes, bytes]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON_TYPE = b"application/json"
# SageMaker gives /ping two seconds.
PING_SECONDS = 1.5


class ClientGone(Exception):
    """The caller closed the connection before the request was whole; there is nobody to answer."""


class DataPlane:
    """An ASGI callable for the paths in `PATHS`."""

    PATHS = frozenset(("/ping", "/ping/", "/invocations"))

    def __init__(self, settings: Settings, served: ServedFile, triton: TritonPool, health: TritonPool) -> None:
        """`health` is a pool for /ping alone: it must not wait behind requests for inference."""
        self.settings = settings
        self.served = served
        self.triton = triton
        self.health = health
        self.recommenders = Recommenders(settings, served, triton)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = [(b"content-type", JSON_TYPE)]
        try:
            if scope["path"] == "/invocations":
                if scope["method"] != "POST":
                    raise MethodNotAllowed(f"{scope['method']} /invocations is not possible; use POST", "POST")
                status, headers, body = await self.invocations(scope, receive)
            else:
                status, body = await self.ping(scope["method"])
        except ClientGone:
            return
        except ServeError as error:
            status = error.status
            body = codec.to_json({"error": str(error), "code": error.code})
            if isinstance(error, MethodNotAllowed):
                headers.append((b"allow", error.allow.encode()))
        except Exception:  # a bug of ours: the caller gets an answer, the log the traceback
            log.exception("%s %s failed", scope["method"], scope["path"])
            status = 500
            body = codec.to_json({"error": "internal error; the server's log says more", "code": "internal"})
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def ping(self, method: str) -> tuple[int, bytes]:
        """200 with an empty body when requests can be answered: the first loading is over, and the default model, or at
        least one model where there is no default, is ready. A model that failed to load costs only itself."""
        if method not in ("GET", "HEAD", "POST"):
            raise MethodNotAllowed(f"{method} /ping is not possible; use GET", "GET, HEAD, POST")
        try:
            ready = await asyncio.wait_for(self.ready(), PING_SECONDS)
        except asyncio.TimeoutError:
            raise Unavailable(f"the inference server did not answer within {PING_SECONDS} s") from None
        if not ready:
            raise Unavailable("no model is ready yet")
        return 200, b""

    async def ready(self) -> bool:
        served = self.served.current()
        if not served.ready:
            return False
        if (await self.health.request(b"GET", "/v2/health/ready")).status == 200:
            return True
        answer = await self.health.request(b"POST", "/v2/repository/index")
        if answer.status != 200:
            return False
        ready = {
            (model["name"], model.get("version"))
            for model in orjson.loads(answer.body)
            if model.get("state") == "READY"
        }
        default = self.settings.default_model_name
        # Of a recommender's parts the live version counts, of other models any.
        live = {name for name, version in ready if version == str(served.versions.get(name, version))}
        live -= served.max_batch_size.keys() - served.versions.keys()
        return default in live if default else bool(live)

    async def invocations(self, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
        """Status, headers and body of the answer to one request."""
        headers: RequestHeaders = dict(scope["headers"])
        body = await self.read_body(headers, receive)
        if b"content-encoding" in headers:
            body = compression.unpack(body, headers[b"content-encoding"], self.settings.max_body_bytes)
        header_length = kserve.binary_header_length(headers, len(body))
        if header_length is not None:
            status, answered, answer = await self.pass_binary(body, header_length, headers)
        else:
            asked, decoded = self.decode(headers.get(b"content-type"), body)
            document = decoded.requests[0]
            if not decoded.many and type(document) is dict and "inputs" in document:
                status, answered, answer = await self.pass_json(document, body, headers)
            else:
                wanted = codec.answer_format(headers.get(b"accept"), asked)
                answers = await self.recommenders.answer(decoded, headers)
                status, answered, answer = 200, [(b"content-type", wanted.header)], wanted.encode(answers, decoded.many)
        if len(answer) >= compression.MIN_GZIP_BYTES and compression.accepts_gzip(headers.get(b"accept-encoding")):
            answer = compression.pack(answer)
            answered.append((b"content-encoding", b"gzip"))
        return status, answered, answer

    def decode(self, content_type: bytes | None, body: bytes) -> tuple[codec.Format, codec.Decoded]:
        """The format of a body, and the requests in it."""
        try:
            asked = codec.request_format(content_type, body)
        except UnsupportedMediaType:  # but KServe-v2 is taken under any type, as SageMaker's examples send it
            if not codec.is_json_object(body):
                raise
            decoded = codec.JSON.decode(body, self.settings.max_list_items)
            if decoded.many or "inputs" not in decoded.requests[0]:
                raise
            return codec.JSON, decoded
        return asked, asked.decode(body, self.settings.max_list_items)

    async def read_body(self, headers: RequestHeaders, receive: Receive) -> bytes:
        """The whole body. Raises BodyTooLarge as soon as the limit is known to be passed."""
        limit = self.settings.max_body_bytes
        declared = headers.get(b"content-length")
        if declared is not None and int(declared) > limit:
            raise BodyTooLarge(f"the body has {int(declared):,} bytes; at most {limit:,} are taken")
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            return body
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise BodyTooLarge(f"the body has more than {limit:,} bytes; at most {limit:,} are taken")
        return b"".join(parts)

    async def pass_json(
        self, document: dict[str, Any], body: bytes, headers: RequestHeaders
    ) -> tuple[int, Headers, bytes]:
        """A KServe-v2 body in JSON, unchanged but for our own field `model`."""
        named = "model" in document
        name = self.recommenders.choose(document.pop("model", None), headers)
        kserve.check_kserve(document, len(body))
        return await self.pass_through(name, codec.to_json(document) if named else body, None)

    async def pass_binary(self, body: bytes, header_length: int, headers: RequestHeaders) -> tuple[int, Headers, bytes]:
        """A KServe-v2 body in Triton's binary form; with a JSON part of 0 bytes it is one raw tensor."""
        document = codec.parse_json(body[:header_length], "the JSON part") if header_length else {}
        named = isinstance(document, dict) and "model" in document
        name = self.recommenders.choose(document.pop("model") if named else None, headers)
        if header_length:
            kserve.check_kserve(document, len(body))
        if named:
            header = codec.to_json(document)
            body, header_length = header + body[header_length:], len(header)
        return await self.pass_through(name, body, header_length)

    async def pass_through(self, name: str, body: bytes, header_length: int | None) -> tuple[int, Headers, bytes]:
        """A body to a model as it is, and the model's answer back as it is.

        A recommender's part is asked for its live version; if that was unloaded in this moment, for the next one.
        """
        version = self.served.current().versions.get(name)
        answer = await self.infer(name, version, body, header_length)
        if answer.status in (404, 503) and (now := self.served.current().versions.get(name)) != version:
            answer = await self.infer(name, now, body, header_length)
        headers = [(b"content-type", answer.content_type)]
        if answer.header_length is not None:
            headers = [
                (b"content-type", b"%s;json-header-size=%d" % (kserve.BINARY, answer.header_length)),
                (b"inference-header-content-length", b"%d" % answer.header_length),
            ]
        if answer.status == 500 and b"Unable to parse" in answer.body:  # JSON of a wrong form: the caller's mistake
            raise BadRequest(triton_message(answer))
        return answer.status, headers, answer.body

    async def infer(self, name: str, version: int | None, body: bytes, header_length: int | None) -> TritonResponse:
        path = f"/v2/models/{name}/infer" if version is None else f"/v2/models/{name}/versions/{version}/infer"
        return await self.triton.request(b"POST", path, body, header_length)
