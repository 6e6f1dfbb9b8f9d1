"""The section `soak`: growth of memory, its standard error, and the mix of requests."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from benchmarks.serving.soak import growth, line, mix, unexpected
from ncf.data.interactions import IdIndex


def test_a_known_line() -> None:
    slope, error = line([0, 1, 2, 3], [5, 7, 9, 11])
    assert slope == pytest.approx(2)
    assert error == pytest.approx(0, abs=1e-12)


def test_the_standard_error_by_hand() -> None:
    slope, error = line([0, 1, 2], [0, 3, 0])  # residuals -1, 2, -1; squares 6, one degree of freedom, Sxx 2
    assert slope == pytest.approx(0)
    assert error == pytest.approx(3**0.5)


def test_the_error_covers_what_noise_does_to_the_slope() -> None:
    draw = random.Random(3)
    misses = []
    for _ in range(200):
        slope, error = line([*range(50)], [0.5 * x + draw.gauss(0, 4) for x in range(50)])
        assert slope is not None
        assert error is not None
        misses.append((slope - 0.5) / error)
    assert sum(abs(miss) < 2 for miss in misses) in range(180, 200)


def test_too_few_points_for_a_line_or_its_error() -> None:
    assert line([], []) == (None, None)
    assert line([1], [1]) == (None, None)
    assert line([1, 2], [1, 4]) == (pytest.approx(3), None)


def test_growth_is_that_of_the_second_half_by_role() -> None:
    samples = [(second, {"front": 100 + second / 36, "model": 500.0}) for second in range(50, 101, 10)]
    warming = [(second, {"front": 50.0 + second, "model": 5.0 * second}) for second in range(0, 51, 10)]
    found = growth(warming + samples, 55)
    assert found["front"]["slope"] == pytest.approx(100)
    assert found["model"]["slope"] == pytest.approx(0)
    assert found["all"]["slope"] == pytest.approx(100)
    assert found["all"]["standard_error"] == pytest.approx(0, abs=1e-6)
    assert growth([], 5) == {}


def test_the_mix_has_every_kind() -> None:
    run = SimpleNamespace(
        users=IdIndex(pl.Series(["u1", "u2", "u3"])), items=IdIndex(pl.Series([f"i{number}" for number in range(9)]))
    )
    recommender: Any = SimpleNamespace(run=run)
    requests = mix(recommender)
    assert len(requests) == 64
    assert mix(recommender) == requests
    assert sum(request.content_type == "text/csv" for request in requests) == 8
    documents = [json.loads(request.body) for request in requests if request.content_type != "text/csv"]
    assert sum("pairs" in document for document in documents) == 16
    assert sum("candidates" in document for document in documents) == 12
    assert sum(b"nobody" in request.body for request in requests) == 8


def test_only_refusals_of_bad_requests_are_expected() -> None:
    assert unexpected({"400": 7}) == 0
    assert unexpected({"400": 7, "503": 1, "closed": 2}) == 3
