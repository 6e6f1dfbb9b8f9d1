"""The data plane: /ping and /invocations, nothing else, and nothing on the way that is not needed."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from serve import codec, recommend
from serve.errors import BadRequest, BodyTooLarge, MethodNotAllowed, ServeError, TritonFailed, Unavailable, UnknownModel
from serve.recommend import RecommendRequest, ScoreRequest
from serve.repository import Recommender, Repository
from serve.settings import Settings
from serve.target_model import target_model
from serve.triton import TritonPool, TritonResponse

log = logging.getLogger("serve")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ClientGone(Exception):
    """The caller closed the connection before the request was whole; there is nobody to answer."""


class DataPlane:
    """An ASGI callable for the paths in `PATHS`."""

    PATHS = frozenset(("/ping", "/ping/", "/invocations"))

    def __init__(self, settings: Settings, triton: TritonPool) -> None:
        self.settings = settings
        self.triton = triton
        self._repository = Repository.scan(settings.model_repository)
        self._recommenders: dict[str, Recommender] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allow = None
        content_type = codec.JSON
        try:
            if scope["path"] == "/invocations":
                if scope["method"] != "POST":
                    raise MethodNotAllowed(f"{scope['method']} /invocations is not possible; use POST", "POST")
                status, content_type, body = await self.invocations(scope, receive)
            else:
                status, body = await self.ping(scope["method"])
        except ClientGone:
            return
        except ServeError as error:
            status = error.status
            body = codec.to_json({"error": str(error), "code": error.code})
            allow = getattr(error, "allow", None)
        except Exception:  # a bug of ours: the caller gets an answer, the log the traceback
            log.exception("%s %s failed", scope["method"], scope["path"])
            status, body = (
                500,
                codec.to_json({"error": "internal error; the server's log says more", "code": "internal"}),
            )
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        if allow is not None:
            headers.append((b"allow", allow.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def ping(self, method: str) -> tuple[int, bytes]:
        """200 with an empty body when requests can be answered: nothing is loading any more, and the default model,
        or at least one model where there is no default, is ready. A model that failed to load costs only itself."""
        if method not in ("GET", "HEAD", "POST"):
            raise MethodNotAllowed(f"{method} /ping is not possible; use GET", "GET, HEAD, POST")
        if (await self.triton.request(b"GET", "/v2/health/ready")).status == 200:
            return 200, b""
        answer = await self.triton.request(b"POST", "/v2/repository/index")
        if answer.status == 200:
            states = {model["name"]: model.get("state") for model in orjson.loads(answer.body)}
            default = self.settings.default_model_name
            ready = [name for name, state in states.items() if state == "READY"]
            if "LOADING" not in states.values() and (default in ready if default else ready):
                return 200, b""
        raise Unavailable("no model is ready yet")

    async def invocations(self, scope: Scope, receive: Receive) -> tuple[int, bytes, bytes]:
        """Status, content type and body of the answer to one request."""
        headers = dict(scope["headers"])
        body = await self.read_body(headers, receive)
        # A KServe-v2 request goes through unparsed unless it may name a model itself.
        if b'"inputs"' in body and b'"model"' not in body:
            return await self.pass_through(self.choose(None, headers), body)
        document = codec.parse_json(body)
        is_object = isinstance(document, dict)
        name = self.choose(document.get("model") if is_object else None, headers)
        if is_object and "inputs" in document:
            if document.pop("model", None) is not None:  # our word, which Triton need not see
                body = codec.to_json(document)
            return await self.pass_through(name, body)
        request = recommend.parse_request(document)
        recommender = await self.recommender(name)
        answer = self.score if isinstance(request, ScoreRequest) else self.recommend
        return 200, codec.JSON, codec.to_json(await answer(request, recommender))  # type: ignore[arg-type]

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
        default = self.settings.default_model_name
        try:
            return target_model(body_model, headers, default, self._repository)
        except UnknownModel:  # it may have been exported after this worker looked
            self._repository = Repository.scan(self.settings.model_repository)
            return target_model(body_model, headers, default, self._repository)

    async def pass_through(self, name: str, body: bytes) -> tuple[int, bytes, bytes]:
        """A KServe-v2 body to the model as it is, and its answer back as it is."""
        answer = await self.triton.request(b"POST", f"/v2/models/{name}/infer", body)
        if answer.status == 500:  # what Triton answers to JSON it cannot parse; that is the caller's mistake
            codec.parse_json(body)
        return answer.status, answer.content_type, answer.body

    async def recommender(self, name: str) -> Recommender:
        """The version of a recommender that Triton serves, with the ids of that same version."""
        found = self._recommenders.get(name)
        if found is not None:
            return found
        if name not in self._repository.recommenders:
            choices = ", ".join(self._repository.recommenders) or "none"
            raise BadRequest(f"{name} is no recommender (there are: {choices}); send it a KServe-v2 body with inputs")
        answer = await self.triton.request(b"GET", f"/v2/models/{name}")
        versions = orjson.loads(answer.body).get("versions") if answer.status == 200 else None
        if not versions:
            raise Unavailable(f"{name} is not ready; the log of the server says why")
        try:
            found = Recommender.open(self.settings.model_repository, name, max(versions, key=int))
        except (OSError, ValueError, KeyError) as error:
            raise Unavailable(f"the files of {name} cannot be read: {error}") from error
        self._recommenders[name] = found
        return found

    async def recommend(self, request: RecommendRequest, recommender: Recommender) -> dict[str, Any]:
        recommend.check_k(request, recommender)
        user = recommend.user_column(request, recommender)
        outputs = await self.infer(recommender, recommender.topk_model, codec.encode_int64(user_index=user))
        return recommend.recommendations(request, recommender, user[0] >= 0, outputs)

    async def score(self, request: ScoreRequest, recommender: Recommender) -> dict[str, Any]:
        columns = recommend.pair_columns(request, recommender)
        if not columns.user_index:
            return recommend.scores(request, recommender, columns, array("f"))
        tensors = codec.encode_int64(user_index=columns.user_index, item_index=columns.item_index)
        outputs = await self.infer(recommender, recommender.name, tensors)
        return recommend.scores(request, recommender, columns, outputs["score"])

    async def infer(self, recommender: Recommender, model: str, tensors: codec.TensorRequest) -> dict[str, array[Any]]:
        """Run one of the recommender's two models, at the version whose ids were used."""
        path = f"/v2/models/{model}/versions/{recommender.version}/infer"
        answer = await self.triton.request(b"POST", path, tensors.body, tensors.header_length)
        if answer.status != 200:
            self._recommenders.pop(recommender.name, None)  # the next request looks which version is there now
            raise self.failure(model, answer)
        return codec.decode_outputs(answer.body, answer.header_length)

    @staticmethod
    def failure(model: str, answer: TritonResponse) -> ServeError:
        """Triton's error as one of ours: the caller's mistake, not ready, or a fault of the model."""
        try:
            message = orjson.loads(answer.body)["error"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            message = f"status {answer.status}"
        if answer.status == 503 or "is not ready" in message or "unknown model" in message:
            return Unavailable(f"{model} is not ready: {message}")
        if answer.status == 400:
            return BadRequest(f"{model}: {message}")
        return TritonFailed(f"{model}: {message}")
