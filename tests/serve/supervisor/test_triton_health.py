"""A tritonserver that was frozen with its supervisor, as AWS Lambda does between events, is not held to have hung."""

from __future__ import annotations

import time
from typing import Any

import pytest

from serve.supervisor.triton_health import FROZEN_SECONDS, SILENT_SECONDS, STUCK_SECONDS, TritonHealth, TritonStart


class Silent:
    """A tritonserver that answers nothing and uses no processor time, and its client."""

    def is_live(self, seconds: float) -> bool:
        return False

    def work(self) -> float:
        return 0.0

    def children(self) -> dict[int, str]:
        return {7: "S"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("limit", [SILENT_SECONDS, STUCK_SECONDS])
def test_the_time_counts_anew_after_a_freeze(limit: float, clock: list[float]) -> None:
    silent: Any = Silent()
    watch = TritonHealth(silent, silent, False) if limit == SILENT_SECONDS else TritonStart(silent)
    clock[0] += 10 * limit + FROZEN_SECONDS
    assert watch.problem() is None
    for _ in range(int(limit)):
        clock[0] += 1
        assert watch.problem() is None
    clock[0] += 1
    assert watch.problem() is not None
