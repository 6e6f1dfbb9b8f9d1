"""One request for inference without its body: its headers, model, kind, id, error and places."""

from __future__ import annotations

from collections.abc import Iterator

from serve.worker.places import Places
from serve.worker.sagemaker_headers import forwarded, inference_id


class Call:
    """The worker's record of one request; the counts and the log are made from it."""

    __slots__ = ("_id", "_ids", "_models", "_places", "error", "headers", "kind", "model")

    def __init__(self, headers: dict[bytes, bytes], places: Places, ids: Iterator[str]) -> None:
        """`ids` has an id for a request that comes without one."""
        self.headers = headers
        self.kind = ""  # one of `telemetry.counts.KINDS`; "" for a request that is not counted
        self.model = ""  # the first model that the request went to
        self.error = ""
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
