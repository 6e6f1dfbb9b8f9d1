from __future__ import annotations

from itertools import combinations
from math import log2

import numpy as np
import pytest
import torch
from sklearn.metrics import auc
from sklearn.metrics.pairwise import cosine_similarity

from ncf.evaluation import beyond_accuracy
from ncf.evaluation.beyond_accuracy import coverage, diversity, gini, item_vectors, novelty
from ncf.models.neural import build_model

pytestmark = pytest.mark.core

TOP = torch.tensor([[0, 1, 2], [0, 1, -1], [0, -1, -1], [-1, -1, -1]])


def test_coverage_is_of_all_items() -> None:
    assert coverage(TOP, 6) == 3 / 6


def test_gini_by_hand() -> None:
    """Of 4 items 0, 1, 2, 3 places: Σ (2j - 5)·count / (4 · 6) = (-1·1 + 1·2 + 3·3) / 24."""
    assert gini(TOP, 4) == pytest.approx(10 / 24)
    assert gini(torch.tensor([[0, 1], [2, 3]]), 4) == 0.0
    assert gini(torch.zeros(5, 1, dtype=torch.int64), 100) == pytest.approx(0.99)
    assert gini(torch.full((2, 2), -1), 4) == 0.0


def test_gini_is_twice_the_area_above_the_lorenz_curve() -> None:
    top = torch.from_numpy(np.random.default_rng(0).zipf(1.5, (40, 10)).clip(max=30) - 1)
    shares = np.append(0, np.cumsum(np.sort(np.bincount(top.flatten(), minlength=30)))) / top.numel()
    assert gini(top, 30) == pytest.approx(1 - 2 * auc(np.linspace(0, 1, 31), shares))


def test_novelty_by_hand() -> None:
    """Items that all 8 users, 2 of them and nobody have: 0, 2 and 3 bits."""
    found = novelty(TOP, torch.tensor([8, 2, 0]), 8).tolist()
    assert found == pytest.approx([(0 + 2 + 3) / 3, (0 + 2) / 2, 0, 0])
    assert novelty(torch.tensor([[1]]), torch.tensor([0, 3]), 7).item() == pytest.approx(log2(7 / 3))


def test_diversity_is_over_the_pairs_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 5)))
    top = torch.stack([torch.randperm(20)[:6] for _ in range(9)])
    top[0, 4:] = -1
    top[1, 1:] = -1
    cosines = cosine_similarity(vectors)
    expected = []
    for row in top.tolist():
        pairs = list(combinations([item for item in row if item >= 0], 2))
        expected.append(np.mean([1 - cosines[pair] for pair in pairs]) if pairs else 0.0)
    for at_once in (2**24, 1):
        monkeypatch.setattr(beyond_accuracy, "SCORES_AT_ONCE", at_once)
        assert diversity(top, vectors).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["gmf", "mlp", "neumf"])
def test_vectors_are_those_of_similar_items(name: str) -> None:
    model = build_model(name, 3, 7, 4).eval()
    with torch.inference_mode():
        vectors = item_vectors(model)
        torch.testing.assert_close(vectors @ vectors.t(), model.catalogue().likeness(torch.arange(7)))
