"""Runs in the environment of requirements-bench.txt: workers with implicit or a module, and a handler for TorchServe.

As a program it is a worker that ranks one user after the other: `workers.py implicit FACTORS.npz THREADS` or
`workers.py torchscript model.pt THREADS`. A line of user indices `[7, 3, …]` on standard input is answered by one
line of two lists: the seconds each call took, and the items of the last one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

K = 100
Rank = Callable[[int], Any]


def implicit_recommend(file: str, threads: int) -> Callable[[int], tuple[Rank, Callable[[Any], list[int]]]]:
    """implicit's own model class with the given factors; each user's row of seen items is cut before the clock runs."""
    import warnings

    warnings.simplefilter("ignore", RuntimeWarning)  # it advises on BLAS threads, and both ways are measured
    import numpy as np
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    data = np.load(file)
    model = AlternatingLeastSquares(factors=data["user_factors"].shape[1], num_threads=threads)
    model.user_factors, model.item_factors = data["user_factors"], data["item_factors"]
    shape = (len(model.user_factors), len(model.item_factors))
    seen = csr_matrix((np.ones(len(data["items"]), np.float32), data["items"], data["indptr"]), shape=shape)

    def prepare(user: int) -> tuple[Rank, Callable[[Any], list[int]]]:
        row = seen[user]
        return (
            lambda user: model.recommend(user, row, N=K, filter_already_liked_items=True),
            lambda answer: answer[0].tolist(),
        )

    return prepare


def torchscript(file: str, threads: int) -> Callable[[int], tuple[Rank, Callable[[Any], list[int]]]]:
    """The exported module, as a backend would call it."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    module = torch.jit.load(file).eval()

    def rank(user: int) -> Any:
        with torch.inference_mode():
            return module(torch.tensor([[user]]))

    return lambda user: (rank, lambda answer: answer[0][0].tolist())


def work(prepare: Callable[[int], tuple[Rank, Callable[[Any], list[int]]]]) -> None:
    for line in sys.stdin:
        seconds, items = [], []
        for user in json.loads(line):
            rank, read = prepare(user)
            began = time.perf_counter()
            answer = rank(user)
            seconds.append(time.perf_counter() - began)
            items = read(answer)
        print(json.dumps([seconds, items]), flush=True)


class Pairs:
    """TorchServe's side of the pairs: the same JSON, ids from dictionaries, one forward for a batch of requests."""

    def initialize(self, context: Any) -> None:
        import torch

        torch.set_num_threads(1)
        folder = Path(context.system_properties["model_dir"])
        self.torch = torch
        self.module = torch.jit.load(str(folder / "model.pt")).eval()
        self.users, self.items = (json.loads((folder / name).read_text()) for name in ("users.json", "items.json"))
        self.loads = json.loads
        try:
            import orjson

            self.loads = orjson.loads
        except ImportError:
            pass

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        users, items, sizes = [], [], []
        for request in data:
            body = request.get("body")
            pairs = (body if isinstance(body, dict) else self.loads(bytes(body)))["pairs"]
            users += [self.users[pair["user_id"]] for pair in pairs]
            items += [self.items[pair["item_id"]] for pair in pairs]
            sizes.append(len(pairs))
        with self.torch.inference_mode():
            columns = (self.torch.tensor(column).unsqueeze(1) for column in (users, items))
            scores = self.module(*columns).squeeze(1).tolist()
        answers, start = [], 0
        for size in sizes:
            answers.append({"scores": scores[start : start + size]})
            start += size
        return answers


_pairs: Pairs | None = None


def handle(data: Any, context: Any) -> Any:
    """What TorchServe calls; the first call, without data, loads."""
    global _pairs
    if _pairs is None:
        _pairs = Pairs()
        _pairs.initialize(context)
    return _pairs.handle(data, context) if data is not None else None


if __name__ == "__main__":
    kind, path, number = sys.argv[1:]
    if number != "0":
        for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ[name] = number
    work({"implicit": implicit_recommend, "torchscript": torchscript}[kind](path, int(number)))
