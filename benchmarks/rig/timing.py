"""Calls timed one after the other, and the quantiles of their times."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

Times = list[float]


async def timed(call: Callable[[], Awaitable[Any]], seconds: float, at_least: int = 3) -> Times:
    """Seconds of each call, one call after the other for `seconds`."""
    times: Times = []
    end = time.perf_counter() + seconds
    while len(times) < at_least or time.perf_counter() < end:
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return times


def latency(times: Sequence[float]) -> dict[str, float]:
    """The figures of a point that tell how long its calls took, in ms; `times` are in seconds."""
    names = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "longest_ms")
    return dict(zip(names, (1e3 * np.quantile(times, (0.5, 0.9, 0.95, 0.99, 1))).tolist(), strict=True))
