"""The food model and one of its users: asks over HTTP, and the answers that the trained model gives offline."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ncf.training.run_directory import Run
from tests.support.serving import Server

FOOD = "ncf_food_model"
USER = 17  # index
JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


@pytest.fixture(scope="module")
def user_id(food_run: Run) -> Any:
    return food_run.users.ids[USER]


def ask(server: Server, **document: Any) -> Any:
    answer = server.invoke({"model": FOOD, **document})
    assert answer.status == 200, answer.body
    return answer.json


def items(answer: Any) -> list[Any]:
    return [one["item_id"] for one in answer["recommendations"]]


def kserve(user: list[int], item: list[int], **more: Any) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "user_index", "datatype": "INT64", "shape": [len(user), 1], "data": user},
            {"name": "item_index", "datatype": "INT64", "shape": [len(item), 1], "data": item},
        ],
        **more,
    }


@torch.inference_mode()
def offline_scores(run: Run, user: list[int], item: list[int]) -> list[float]:
    scores: list[float] = run.model(torch.tensor(user), torch.tensor(item)).tolist()
    return scores


@torch.inference_mode()
def offline_top(run: Run, user: int, k: int) -> tuple[list[int | str], list[float]]:
    """Best items of a user with everything they have seen removed, raw ids and scores."""
    score = run.model(torch.tensor([user]), torch.arange(len(run.items)))
    score[run.known.items[run.known.indptr[user] : run.known.indptr[user + 1]]] = float("-inf")
    best = score.topk(min(k, int(torch.isfinite(score).sum())))
    return run.items.decode(best.indices.numpy()), best.values.tolist()


def assert_top_is(answer: dict[str, Any], run: Run, user: int, k: int) -> None:
    ids, scores = offline_top(run, user, k)
    assert [item["item_id"] for item in answer["recommendations"]] == ids
    assert [item["score"] for item in answer["recommendations"]] == pytest.approx(scores, abs=1e-5)
