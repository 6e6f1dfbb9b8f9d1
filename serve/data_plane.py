"""The data plane: /ping and /invocations, async, nothing on the way that is not needed."""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from serve import codec, recommend, tensors
from serve.errors import BadRequest, BodyTooLarge, MethodNotAllowed, ServeError, TritonFailed, Unavailable
from serve.recommend import RecommendRequest, ScoreRequest
from serve.repository import Recommender, Repository
from serve.settings import Settings
from serve.target_model import target_model
from serve.triton import TritonPool, TritonResponse

log = logging.getLogger("serve")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = list[tuple[bytes, bytes]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


# SageMaker gives /ping two seconds.
PING_SECONDS = 1.5


class ClientGone(Exception):
    """The caller closed the connection before the request was whole; there is nobody to answer."""


class DataPlane:
    """An ASGI callable for the paths in `PATHS`."""

    PATHS = frozenset(("/ping", "/ping/", "/invocations"))

    def __init__(self, settings: Settings, triton: TritonPool, health: TritonPool) -> None:
        """`health` is a pool for /ping alone: it must not wait behind requests for inference."""
        self.settings = settings
        self.triton = triton
        self.health = health
        self._repository = Repository.scan(settings.model_repository)
        self._recommenders: dict[str, Recommender] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = [(b"content-type", codec.JSON)]
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
        """200 with an empty body when requests can be answered: nothing is loading any more, and the default model,
        or at least one model where there is no default, is ready. A model that failed to load costs only itself."""
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
        if (await self.health.request(b"GET", "/v2/health/ready")).status == 200:
            return True
        answer = await self.health.request(b"POST", "/v2/repository/index")
        if answer.status != 200:
            return False
        states = {model["name"]: model.get("state") for model in orjson.loads(answer.body)}
        default = self.settings.default_model_name
        ready = [name for name, state in states.items() if state == "READY"]
        return "LOADING" not in states.values() and bool(default in ready if default else ready)

    async def invocations(self, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
        """Status, headers and body of the answer to one request."""
        headers = dict(scope["headers"])
        body = await self.read_body(headers, receive)
        document = codec.parse_json(body)
        is_object = isinstance(document, dict)
        name = self.choose(document.pop("model", None) if is_object else None, headers)
        if is_object and "inputs" in document:
            tensors.check_kserve(document, len(body))
            return await self.pass_through(name, body if b'"model"' not in body else codec.to_json(document))
        request = recommend.parse_request(document)
        recommender = await self.recommender(name)
        recommend.check_size(request, recommender)
        if isinstance(request, RecommendRequest):
            answer = await self.recommend(request, recommender)
        else:
            answer = await self.score(request, recommender)
        return 200, [(b"content-type", codec.JSON)], codec.to_json(answer)

    async def read_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
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

    def choose(self, body_model: object, headers: dict[bytes, bytes]) -> str:
        return target_model(body_model, headers, self.settings.default_model_name, self._repository)

    async def pass_through(self, name: str, body: bytes) -> tuple[int, Headers, bytes]:
        """A KServe-v2 body to the model as it is, and its answer back as it is."""
        answer = await self.triton.request(b"POST", f"/v2/models/{name}/infer", body)
        headers = [(b"content-type", answer.content_type)]
        if answer.header_length is not None:
            headers.append((b"inference-header-content-length", b"%d" % answer.header_length))
        if answer.status == 500 and b"Unable to parse" in answer.body:  # JSON of a wrong form: the caller's mistake
            raise BadRequest(self.message(answer))
        return answer.status, headers, answer.body

    async def recommender(self, name: str) -> Recommender:
        """The version of a recommender that Triton serves, with the ids of that same version."""
        found = self._recommenders.get(name)
        if found is not None:
            return found
        if name not in self._repository.recommenders:
            choices = ", ".join(self._repository.recommenders) or "none"
            raise BadRequest(f"{name} is no recommender (there are: {choices}); send it a KServe-v2 body with inputs")
        metadata = await self.triton.request(b"GET", f"/v2/models/{name}")
        config = await self.triton.request(b"GET", f"/v2/models/{name}/config")
        versions = orjson.loads(metadata.body).get("versions") if metadata.status == config.status == 200 else None
        if not versions:
            raise Unavailable(f"{name} is not ready; the log of the server says why")
        max_pairs = orjson.loads(config.body)["max_batch_size"]
        try:
            found = Recommender.open(self.settings.model_repository, name, max(versions, key=int), max_pairs)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"the files of {name} cannot be read: {error}") from error
        self._recommenders[name] = found
        return found

    async def recommend(self, request: RecommendRequest, recommender: Recommender) -> dict[str, Any]:
        user = recommend.user_column(request, recommender)
        outputs = await self.infer(recommender, recommender.topk_model, tensors.encode_int64(user_index=user))
        return recommend.recommendations(request, recommender, user[0] >= 0, outputs)

    async def score(self, request: ScoreRequest, recommender: Recommender) -> dict[str, Any]:
        columns = recommend.pair_columns(request, recommender)
        if not columns.user_index:
            return recommend.scores(request, recommender, columns, array("f"))
        columns_sent = tensors.encode_int64(user_index=columns.user_index, item_index=columns.item_index)
        outputs = await self.infer(recommender, recommender.name, columns_sent)
        return recommend.scores(request, recommender, columns, outputs["score"])

    async def infer(
        self, recommender: Recommender, model: str, request: tensors.TensorRequest
    ) -> dict[str, array[Any]]:
        """Run one of the recommender's two models, at the version whose ids were used."""
        path = f"/v2/models/{model}/versions/{recommender.version}/infer"
        answer = await self.triton.request(b"POST", path, request.body, request.header_length)
        if answer.status != 200:
            self._recommenders.pop(recommender.name, None)  # the next request looks which version is there now
            raise self.failure(model, answer)
        return tensors.decode_outputs(answer.body, answer.header_length)

    @classmethod
    def failure(cls, model: str, answer: TritonResponse) -> ServeError:
        """Triton's error as one of ours: the caller's mistake, not ready, or a fault of the model."""
        message = cls.message(answer)
        if answer.status == 503 or "is not ready" in message or "unknown model" in message:
            return Unavailable(f"{model} is not ready: {message}")
        if answer.status == 400:
            return BadRequest(f"{model}: {message}")
        return TritonFailed(f"{model}: {message}")

    @staticmethod
    def message(answer: TritonResponse) -> str:
        try:
            return str(orjson.loads(answer.body)["error"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return f"status {answer.status}"
