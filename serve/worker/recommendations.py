"""Answers requests by the live recommenders: all requests of one body to a recommender get the same version."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from typing import Any

from serve.errors import BadRequest, ServeError, Unavailable, VersionGone
from serve.formats.json_format import Decoded
from serve.models.served import UNREADABLE, ServedFile
from serve.recommend.asks import Answer
from serve.recommend.batches import Infer, answer_plans
from serve.recommend.parse import Request, parse_request, work
from serve.recommend.plan import plan
from serve.recommend.recommender import Part, Recommender
from serve.settings import Settings
from serve.triton import tensors
from serve.triton.failures import failure
from serve.triton.pool import TritonPool
from serve.worker.call import Call
from serve.worker.target_model import target_model


class Recommenders:
    """The recommenders of one worker."""

    def __init__(self, settings: Settings, served: ServedFile, triton: TritonPool) -> None:
        self.settings = settings
        self.served = served
        self.triton = triton

    def choose(self, body_model: object, headers: dict[bytes, bytes]) -> str:
        """The model of a request."""
        return target_model(body_model, headers, self.settings.default_model_name, self.served.current())

    async def answer(self, decoded: Decoded, call: Call, only: str | None = None) -> list[Answer]:
        """The answers to one body's requests, in order; `only` is the model if the path names it.

        If the body has many requests, one that fails has `{"error": {"code", "message"}}` as its answer. The error of a
        single request is raised.
        """
        answers: list[Answer | ServeError] = []
        groups: dict[str, list[tuple[int, Request]]] = {}
        left = self.settings.max_work
        for place, document in enumerate(decoded.requests):
            try:
                if isinstance(document, ServeError):
                    raise document
                named = type(document) is dict and "model" in document
                model = document.pop("model") if named else None
                name = only or self.choose(model, call.headers)
                request = parse_request(document, self.settings.max_list_items)
                left -= work(request)
                if left < 0:
                    raise BadRequest(
                        f"the body has more than {self.settings.max_work:,} ids to look up and values to return "
                        "(SERVE_MAX_WORK); send it in parts"
                    )
                groups.setdefault(name, []).append((place, request))
                answers.append({})
            except ServeError as error:
                answers.append(error)
        if len(groups) == 1:
            ((name, group),) = groups.items()
            await self.recommend(name, group, answers, call)
        else:
            await asyncio.gather(*(self.recommend(name, group, answers, call) for name, group in groups.items()))
        finished = []
        for answer in answers:
            if not isinstance(answer, ServeError):
                answer["request_id"] = call.id
                finished.append(answer)
                continue
            # A traceback refers to this frame, which refers to the error: only the garbage collector would free them.
            answer.__traceback__ = None
            if not decoded.many:
                try:
                    raise answer
                finally:
                    del answer, answers
            described = {"code": answer.code, "message": str(answer)}
            finished.append({"error": described, "request_id": call.id})
        return finished

    async def recommend(
        self, name: str, group: Sequence[tuple[int, Request]], answers: list[Answer | ServeError], call: Call
    ) -> None:
        """Put the answers to requests to one recommender, all by the same version, into `answers`.

        If the version is replaced by another meanwhile, Triton does not have it any more, and all requests are made
        once more.
        """
        found: list[Answer | ServeError]
        for last in (False, True):
            plans, places = [], []
            try:
                recommender = self.recommender(name)
                if not last:
                    call.enter(name)
                for place, request in group:
                    try:
                        plans.append(plan(request, recommender))
                        places.append(place)
                    except BadRequest as error:
                        answers[place] = error
                found = [*await answer_plans(plans, self.infer_with(recommender, call.forwarded))]
            except VersionGone as error:
                if not last:
                    continue
                found = [error] * len(places)
            except ServeError as error:
                places = places or [place for place, _ in group]  # a request that was refused keeps its own reason
                found = [error] * len(places)
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
            return

    def recommender(self, name: str) -> Recommender:
        """The live version of a recommender, with the ids of that version."""
        served = self.served.current()
        if name not in served.recommenders:
            choices = ", ".join(served.recommenders) or "none"
            raise BadRequest(f"{name} is no recommender (there are: {choices}); send it a KServe-v2 body with inputs")
        try:
            found = self.served.recommender(name)
        except UNREADABLE as error:
            raise Unavailable(f"the files of {name} cannot be read: {error}") from error
        if found is None:
            raise Unavailable(f"{name} is not ready; the log of the server says why")
        return found

    def infer_with(self, recommender: Recommender, forwarded: bytes) -> Infer:
        async def infer(part: Part, request: tensors.TensorRequest) -> dict[str, array[Any]]:
            """Run one of the recommender's models, at the version whose ids were used."""
            path = f"/v2/models/{part.model_name}/versions/{recommender.version}/infer"
            answer = await self.triton.request(b"POST", path, request.body, request.header_length, forwarded)
            if answer.status != 200:
                raise failure(part.model_name, answer, self.settings.multi_model)
            return tensors.decode_outputs(answer.body, answer.header_length)

        return infer
