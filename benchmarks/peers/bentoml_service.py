"""BentoML with the exported module: a worker a core, adaptive batching over pairs."""

from __future__ import annotations

import bentoml
from peer_scorer import CORES, Scorer


@bentoml.service(
    workers=CORES,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Pairs:
    def __init__(self) -> None:
        self.scorer = Scorer()

    @bentoml.api(batchable=True, max_batch_size=6_400)
    async def score(self, pairs: list[dict[str, str]]) -> list[float]:
        return self.scorer.score(pairs)
