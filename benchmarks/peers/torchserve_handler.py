"""TorchServe's handler for the exported module: one forward for the requests of a batch; packed with peer_scorer.py."""

from __future__ import annotations

from typing import Any

import orjson
from peer_scorer import Scorer

_scorer: Scorer | None = None


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[dict[str, list[float]]] | None:
    """The answers to a batch of requests; TorchServe's first call is without data, and loads the model."""
    global _scorer
    if _scorer is None:
        _scorer = Scorer(context.system_properties["model_dir"])
    if data is None:
        return None
    bodies = [request["body"] for request in data]
    documents = [body if isinstance(body, dict) else orjson.loads(bytes(body)) for body in bodies]
    return [{"scores": scores} for scores in _scorer.score_all([document["pairs"] for document in documents])]
