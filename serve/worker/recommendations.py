"""Answers requests by the live recommenders: all requests of one body to a recommender get the same version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from serve.errors import BadRequest, ServeError, Unavailable, VersionGone
from serve.formats.json_format import Decoded
from serve.models.served import UNREADABLE, Served, ServedFile
from serve.recommend.asks import Answer
from serve.recommend.batches import Infer, answer_plans
from serve.recommend.parse import Parsed, Request, parse_request, work
from serve.recommend.plan import plan
from serve.recommend.recommender import Part, Recommender
from serve.settings import Settings
from serve.triton.joined_calls import JoinedCalls, Target
from serve.triton.pool import TritonPool
from serve.worker.call import Call
from serve.worker.target_model import target_model

if TYPE_CHECKING:
    from array import array


class Recommenders:
    """The recommenders of one worker."""

    def __init__(self, settings: Settings, served: ServedFile, triton: TritonPool) -> None:
        self.settings = settings
        self.served = served
        self.calls = JoinedCalls(triton, settings.multi_model)

    def choose(self, body_model: object, headers: dict[bytes, bytes]) -> str:
        """The model of a request."""
        return target_model(body_model, headers, self.settings.default_model_name, self.served.this_turn())

    async def answer(self, decoded: Decoded, call: Call, only: str | None = None) -> list[Answer]:
        """The answers to one body's requests, in order; `only` is the model if the path names it.

        If the body has many requests, one that fails has `{"error": {"code", "message"}}` as its answer. The error of a
        single request is raised.
        """
        if not decoded.many:
            name, request = self.parse(decoded.requests[0], call, only, self.settings.max_work)
            (answer,) = await self.recommend(name, [request], call)
            if isinstance(answer, ServeError):
                # A traceback refers to frames that refer to the error: only the garbage collector would free them.
                answer.__traceback__ = None
                try:
                    raise answer
                finally:
                    del answer
            answer["request_id"] = call.id
            return [answer]
        answers: list[Answer | ServeError] = [{} for _ in decoded.requests]
        groups: dict[str, list[tuple[int, Request]]] = {}
        left = self.settings.max_work
        for place, document in enumerate(decoded.requests):
            try:
                name, request = self.parse(document, call, only, left)
                left -= work(request)
                groups.setdefault(name, []).append((place, request))
            except ServeError as error:
                answers[place] = error
        if groups:  # a model that the path names was looked up when the body began to come
            self.served.current()
        asked = [self.recommend(name, [request for _, request in group], call) for name, group in groups.items()]
        for group, found in zip(groups.values(), await asyncio.gather(*asked), strict=True):
            for (place, _), answer in zip(group, found, strict=True):
                answers[place] = answer
        return [_described(answer, call.id) for answer in answers]

    def parse(self, document: Any, call: Call, only: str | None, max_work: int) -> tuple[str, Request]:
        """The model of a request, and the request; the document may be an error of reading it. Raises ServeError."""
        if isinstance(document, ServeError):
            raise document
        if isinstance(document, Parsed):
            name = only or self.choose(document.model, call.headers)
            request = document.request
        else:
            named = type(document) is dict and "model" in document
            model = document.pop("model") if named else None
            name = only or self.choose(model, call.headers)
            _check_is_recommender(name, self.served.last)
            request = parse_request(document, self.settings.max_list_items)
        if work(request) > max_work:
            raise BadRequest(
                f"the body has more than {self.settings.max_work:,} ids to look up and values to return "
                "(SERVE_MAX_WORK); send it in parts"
            )
        return name, request

    async def recommend(self, name: str, requests: Sequence[Request], call: Call) -> list[Answer | ServeError]:
        """The answers to requests to one recommender, all by the same version, each an answer or an error.

        If the version is replaced by another meanwhile, Triton does not have it any more, and all requests are made
        once more.
        """
        found: list[Answer | ServeError] = []
        for last in (False, True):
            plans, places = [], []
            found = [{} for _ in requests]
            try:
                recommender = self.recommender(name, last)
                if not last:
                    call.enter(name)
                for place, request in enumerate(requests):
                    try:
                        plans.append(plan(request, recommender))
                        places.append(place)
                    except BadRequest as error:
                        found[place] = error
                answers: Sequence[Answer | ServeError]
                answers = await answer_plans(plans, self.infer_with(recommender, call.forwarded))
            except ServeError as error:
                if isinstance(error, VersionGone) and not last:
                    continue
                places = places or [*range(len(requests))]  # a request that was refused keeps its own reason
                answers = [error] * len(places)
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer
            break
        return found

    def recommender(self, name: str, again: bool) -> Recommender:
        """The live version of a recommender, with the ids of that version; `again` if it may have changed since the
        model was chosen."""
        served = self.served.current() if again else self.served.last
        _check_is_recommender(name, served)
        try:
            found = self.served.recommender(name)
        except UNREADABLE as error:
            raise Unavailable(f"the files of {name} cannot be read: {error}") from error
        if found is None:
            raise Unavailable(f"{name} is not ready; the log of the server says why")
        return found

    def infer_with(self, recommender: Recommender, forwarded: bytes) -> Infer:
        """Asks the recommender's models, at the version whose ids were used."""

        def infer(part: Part, shape: tuple[int, ...], rows: int, columns: Mapping[str, array[int]]) -> Any:
            target = Target(part.model_name, recommender.version, shape, part.max_batch_size)
            # A ranking takes longer than its call, and another instance of its model may be free (D141).
            infer = self.calls.joined if part is recommender.score else self.calls.alone
            return infer(target, rows, columns, forwarded)

        return infer


def _check_is_recommender(name: str, served: Served) -> None:
    if name not in served.recommenders:
        choices = ", ".join(served.recommenders) or "none"
        raise BadRequest(f"{name} is no recommender (there are: {choices}); send it a KServe-v2 body with inputs")


def _described(answer: Answer | ServeError, request_id: str) -> Answer:
    """The answer to one of many requests, or its error as an answer."""
    if isinstance(answer, ServeError):
        answer.__traceback__ = None
        answer = {"error": {"code": answer.code, "message": str(answer)}}
    answer["request_id"] = request_id
    return answer
