"""The first rung of the ladder: threads of this process call the exported TorchScript, without a server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from benchmarks.rig.processes import unrelated_seconds
from benchmarks.rig.questions import Question
from benchmarks.rig.recommender import Recommender
from benchmarks.rig.timing import latency

Questions = Callable[[int], list[Question]]


class InProcess:
    """Both exported modules, loaded; a call uses one thread of torch, as in Triton's instances."""

    def __init__(self, recommender: Recommender, device: str) -> None:
        exported = recommender.exported
        self.device = torch.device("cuda" if device == "gpu" else "cpu")
        files = (part / str(exported.version) / "model.pt" for part in (exported.score, exported.query))
        self.score, self.query = (torch.jit.load(str(file), map_location=self.device).eval() for file in files)

    def answer(self, question: Question) -> tuple[torch.Tensor, ...]:
        """Scores [rows, 1], or items and scores [1, K]; on the CPU, from where a server sends them."""
        with torch.inference_mode():
            if question.top:
                return tuple(part.cpu() for part in self.query(torch.from_numpy(question.query).to(self.device)))
            users = torch.from_numpy(question.user_index)[:, None].to(self.device)
            items = torch.from_numpy(question.item_index)[:, None].to(self.device)
            return (self.score(users, items).cpu(),)

    def measure(self, made: Questions, concurrency: int, number: int, seconds: float) -> dict[str, Any]:
        """Call the modules for some seconds in `concurrency` threads, at most one a core."""
        asked, before = made(number), torch.get_num_threads()
        concurrency = min(concurrency, len(os.sched_getaffinity(0)))
        torch.set_num_threads(1)
        try:
            unrelated, cpu, began = unrelated_seconds(), time.process_time(), time.perf_counter()
            with ThreadPoolExecutor(concurrency) as pool:
                found = list(pool.map(lambda first: self._call(asked, first, began + seconds), range(concurrency)))
            elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
            unrelated = unrelated_seconds() - unrelated
        finally:
            torch.set_num_threads(before)
        times = np.concatenate(found)
        return {
            "requests": len(times),
            "requests_per_s": len(times) / elapsed,
            "rows_per_s": len(times) * len(asked[0].user_index) / elapsed,
            **latency(times),
            "cpu_us": {"model": 1e6 * cpu / len(times)},
            "others": max(0.0, unrelated / elapsed),
            "tool": "threads",
        }  # fmt: skip

    def _call(self, asked: list[Question], first: int, end: float) -> list[float]:
        times, number = [], first
        while not times or time.perf_counter() < end:
            began = time.perf_counter()
            self.answer(asked[number % len(asked)])
            times.append(time.perf_counter() - began)
            number += 1
        return times
