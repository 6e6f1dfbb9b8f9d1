"""MLServer's custom runtime with the exported module: KServe-v2 JSON."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from peer_scorer import Scorer


class Pairs(MLModel):
    async def load(self) -> bool:
        self.scorer = Scorer()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        columns = {column.name: column.data for column in payload.inputs}
        pairs = [
            {"user_id": user, "item_id": item}
            for user, item in zip(columns["user_id"], columns["item_id"], strict=True)
        ]
        scores = self.scorer.score(pairs)
        output = ResponseOutput(name="scores", datatype="FP32", shape=[len(scores), 1], data=scores)
        return InferenceResponse(model_name=self.name, outputs=[output])
