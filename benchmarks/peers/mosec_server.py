"""mosec with the exported module: a worker a core, dynamic batching, orjson."""

from __future__ import annotations

from typing import Any

import orjson
from mosec import Server, Worker
from peer_scorer import CORES, Scorer


class Pairs(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.scorer = Scorer()

    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data)

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, list[float]]]:
        return [{"scores": scores} for scores in self.scorer.score_all([request["pairs"] for request in data])]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Pairs, num=CORES, max_batch_size=64, max_wait_time=1)
    server.run()
