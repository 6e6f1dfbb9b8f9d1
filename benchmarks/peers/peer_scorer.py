"""The work of every peer: pairs of raw ids scored by the exported module, with the indices from dictionaries."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

PORT = int(os.environ.get("PEER_PORT", "8000"))
CORES = len(os.sched_getaffinity(0))


class Scorer:
    """The module and the ids in a folder, by default PEER_FOLDER; every worker of a peer loads its own."""

    def __init__(self, folder: str | None = None) -> None:
        torch.set_num_threads(1)  # the workers share the cores
        files = Path(folder or os.environ["PEER_FOLDER"])
        self.module = torch.jit.load(str(files / "model.pt")).eval()
        self.users, self.items = (json.loads((files / name).read_text()) for name in ("users.json", "items.json"))

    def score(self, pairs: list[dict[str, Any]]) -> list[float]:
        users, items = self.users, self.items
        with torch.inference_mode():
            user = torch.tensor([users[pair["user_id"]] for pair in pairs]).unsqueeze(1)
            item = torch.tensor([items[pair["item_id"]] for pair in pairs]).unsqueeze(1)
            scores: list[float] = self.module(user, item).squeeze(1).tolist()
        return scores

    def score_all(self, requests: list[list[dict[str, Any]]]) -> list[list[float]]:
        """The scores of several requests, from one forward for all their pairs."""
        if len(requests) == 1:
            return [self.score(requests[0])]
        scores = self.score([pair for pairs in requests for pair in pairs])
        answers, start = [], 0
        for pairs in requests:
            answers.append(scores[start : start + len(pairs)])
            start += len(pairs)
        return answers
