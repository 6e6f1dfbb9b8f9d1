"""Ray Serve with the exported module: a replica a core behind HAProxy, its throughput mode, batching."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import orjson
import ray
from peer_scorer import CORES, PORT
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=CORES, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class Pairs:
    def __init__(self) -> None:
        from peer_scorer import Scorer

        self.scorer = Scorer()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def score(self, requests: list[list[dict[str, Any]]]) -> list[list[float]]:
        return self.scorer.score_all(requests)

    async def __call__(self, request: Request) -> Response:
        scores = await self.score(orjson.loads(await request.body())["pairs"])
        return Response(orjson.dumps({"scores": scores}), media_type="application/json")


if __name__ == "__main__":
    stop = threading.Event()
    ray.init(num_cpus=CORES, include_dashboard=False, _temp_dir=os.environ["PEER_SCRATCH"])
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Pairs.bind(), route_prefix="/pairs")
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    stop.wait()
    ray.shutdown()
