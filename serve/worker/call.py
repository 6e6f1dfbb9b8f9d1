"""One request for inference without its body: its headers, model, kind, id, error and places."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from serve.errors import Overloaded
from serve.formats.json_format import error_json
from serve.telemetry.counts import Tally
from serve.worker.sagemaker_headers import forwarded, inference_id


class Places:
    """The requests under way by model, at most `most` for each; a request without a free place is answered 503."""

    def __init__(self, most: int, tally: Tally) -> None:
        self.most = most
        self._tally = tally
        self._taken: dict[str, int] = {}

    def take(self, model: str) -> None:
        """Take a place, until `give_back`. Raises Overloaded if all are taken."""
        taken = self._taken.get(model, 0)
        if taken >= self.most:
            self._tally.shed(model)
            raise Overloaded(f"{model} has {taken:,} requests under way (SERVE_MAX_IN_FLIGHT); try again shortly")
        self._taken[model] = taken + 1
        self._tally.begin(model)

    def give_back(self, model: str) -> None:
        self._taken[model] -= 1
        self._tally.done(model)


class Call:
    """The worker's record of one request; the counts and the log are made from it."""

    __slots__ = ("_id", "_ids", "_models", "_places", "error", "error_body", "headers", "kind", "model")

    def __init__(self, headers: dict[bytes, bytes], places: Places, ids: Iterator[str]) -> None:
        """`ids` has an id for a request that comes without one."""
        self.headers = headers
        self.kind = ""  # one of `telemetry.counts.KINDS`; "" for a request that is not counted
        self.model = ""  # the first model that the request went to
        self.error = ""
        self.error_body: Callable[[str, str], bytes] = error_json  # the body of an error, from its message and code
        self._id = ""
        self._ids = ids
        self._places = places
        self._models: tuple[str, ...] = ()  # the models in which the request has a place

    @property
    def id(self) -> str:
        """The caller's X-Amzn-SageMaker-Inference-Id, else an id of ours."""
        if not self._id:
            self._id = inference_id(self.headers) or next(self._ids)
        return self._id

    @property
    def forwarded(self) -> bytes:
        """The headers that Triton gets."""
        return forwarded(self.headers)

    def enter(self, model: str) -> None:
        """Take a place in a model, unless the request has one. Raises Overloaded."""
        if model not in self._models:
            self.model = self.model or model
            self._places.take(model)
            self._models += (model,)

    def leave(self) -> None:
        """Give all places back: the request is over, however it ended."""
        for model in self._models:
            self._places.give_back(model)
        self._models = ()
