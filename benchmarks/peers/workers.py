"""A process that ranks one user after the other, by the library implicit or by an exported module.

It runs in the environment of requirements-bench.txt: `workers.py implicit FACTORS.npz THREADS`, or `workers.py
torchscript model.pt THREADS`; 0 threads leave the library's default. It answers a line of user indices `[7, 3, …]` on
standard input by a line with two lists: the seconds of each call, and the items of the last one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

K = 100
USER = 1  # as ncf/export/query.py has it, which this environment cannot import
Rank = Callable[[int], Any]
# From a user to the call that is timed, and to a function that reads the items from its answer.
Prepare = Callable[[int], tuple[Rank, Callable[[Any], list[int]]]]


def implicit_recommend(file: str, threads: int) -> Prepare:
    """implicit's own model class with these factors; a user's row of seen items is cut before the call is timed."""
    import warnings

    warnings.simplefilter("ignore", RuntimeWarning)  # a warning on BLAS threads; both ways are measured
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


def torchscript(file: str, threads: int) -> Prepare:
    """The exported module, called as Triton's backend calls it."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    module = torch.jit.load(file).eval()

    def rank(user: int) -> Any:
        with torch.inference_mode():
            return module(torch.tensor([[[USER, user]]]))

    return lambda user: (rank, lambda answer: answer[0][0].tolist())


def answer_lines(prepare: Prepare) -> None:
    for line in sys.stdin:
        seconds, items = [], []
        for user in json.loads(line):
            rank, read = prepare(user)
            began = time.perf_counter()
            answer = rank(user)
            seconds.append(time.perf_counter() - began)
            items = read(answer)
        print(json.dumps([seconds, items]), flush=True)


if __name__ == "__main__":
    kind, path, number = sys.argv[1:]
    if number != "0":
        for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
            os.environ[name] = number
    answer_lines({"implicit": implicit_recommend, "torchscript": torchscript}[kind](path, int(number)))
