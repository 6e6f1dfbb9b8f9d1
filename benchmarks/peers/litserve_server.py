"""LitServe with the exported module: a worker and an API server a core, batching, ZeroMQ between them."""

from __future__ import annotations

from typing import Any

import litserve
import orjson
from fastapi import Response
from peer_scorer import CORES, PORT, Scorer


class Pairs(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.scorer = Scorer()

    # Without annotations here and in encode_response, because FastAPI would check values against them.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request["pairs"]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def predict(self, inputs: list[list[dict[str, Any]]]) -> list[list[float]]:
        return self.scorer.score_all(inputs)

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        # Bytes, because FastAPI would convert every number of a dictionary.
        return Response(orjson.dumps({"scores": output}), media_type="application/json")


if __name__ == "__main__":
    api = Pairs(max_batch_size=64, batch_timeout=0.001, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=CORES, fast_queue=True)
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False, access_log=False)
