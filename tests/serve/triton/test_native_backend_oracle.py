"""The pytorch backend in C++ beside the one in Python: the same models and requests in two real tritonservers.

`python -m pytest -m oracle` runs this. The differences that are meant, and where they are tested:

- An index out of range is 400 from the native backend, a caller's mistake, and 500 from the one in Python (here).
- The native backend refuses a model that does not fit its configuration when it is loaded, and takes strings, a
  dictionary, and arguments with defaults (test_native_backend.py).
- The order of the outputs in an answer: that of the configuration, or that of their indices. They have names.
- Words of errors differ; Triton's own, for requests that reach neither backend, are the same (here).
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from serve.triton import runtime as triton_runtime
from tests.support.bare_triton import TYPES, Embedding, Sum, Triton, config, tensor
from tests.support.native_backend import IS_BUILT

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not IS_BUILT, reason="the native backend is not built: python3 -m serve.triton.runtime"),
]

BATCHING = "dynamic_batching { max_queue_delay_microseconds: 2000 }"
# All types in one model: each model of the backend in Python is a process of its own.
KINDS = tuple(TYPES)
LETTERS = "abcdefghijkmn"


class Types(nn.Module):
    def forward(
        self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor, g: Tensor,
        h: Tensor, i: Tensor, j: Tensor, k: Tensor, m: Tensor, n: Tensor,
    ) -> list[Tensor]:  # fmt: skip
        return [a, b, c, d, e, f, g, h, i, j, k, m, n]


MODELS: dict[str, tuple[nn.Module, str]] = {
    "types": (
        Types(),
        config(
            [tensor(name, kind) for name, kind in zip(LETTERS, KINDS, strict=True)],
            [tensor(f"OUTPUT__{n}", KINDS[n]) for n in reversed(range(len(KINDS)))],
            more=BATCHING,
        ),
    ),
    "rows": (Embedding(), config([tensor("x", "INT64")], [tensor("y", "FP32")], more=BATCHING)),
    "sum": (Sum(), config([tensor("x", "FP32", "[ -1 ]")], [tensor("sum", "FP32")], batch=0)),
}


@pytest.fixture(scope="module")
def backends(one_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Triton, Triton]]:
    """A tritonserver with the native backend and one with the backend in Python, each with all models."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        native = stack.enter_context(Triton(tmp_path_factory.mktemp("native")))
        patch.setattr(triton_runtime, "LAID_OUT", tmp_path_factory.mktemp("none") / "backends")
        python = stack.enter_context(Triton(tmp_path_factory.mktemp("python")))
        patch.undo()
        for triton, library in ((native, "libtriton_pytorch.so"), (python, "model.py")):
            assert (triton.backends / "pytorch" / library).exists()
            for name in ("tiny", "tiny_query"):
                shutil.copytree(one_model / name, triton.models / name)
            for name, (module, configuration) in MODELS.items():
                triton.write(name, module, configuration)
            with ThreadPoolExecutor(2) as pool:
                names = [path.name for path in triton.models.iterdir()]
                assert list(pool.map(triton.load, names)) == [(200, {})] * len(names)
        yield native, python


def values(chance: random.Random, kind: str, *shape: int) -> Tensor:
    """Random bits: every value of a type, also those that are no numbers."""
    size = 1 if kind == "BOOL" else TYPES[kind].itemsize
    bits = torch.tensor([chance.randrange(256) for _ in range(torch.Size(shape).numel() * size)], dtype=torch.uint8)
    return (bits % 2 == 1 if kind == "BOOL" else bits.view(TYPES[kind])).reshape(shape)


def indices(chance: random.Random, rows: int) -> Tensor:
    return torch.tensor([[chance.choice([*range(8), -1, 2**40, -(2**63)])] for _ in range(rows)])


def queries(chance: random.Random, rows: int) -> Tensor:
    """Rows of (kind, value), of lone users or of several conditions."""
    length = chance.choice([1, 4])
    kinds = torch.tensor([[[chance.randrange(-1, 20)] for _ in range(length)] for _ in range(rows)])
    return torch.cat([kinds, torch.stack([indices(chance, length) for _ in range(rows)])], dim=2)


def right(chance: random.Random) -> tuple[str, dict[str, Tensor]]:
    """A request that has an answer."""
    rows = chance.randint(1, 8)
    return chance.choice(
        [
            ("tiny", {"user_index": indices(chance, rows), "item_index": indices(chance, rows)}),
            ("tiny_query", {"query": queries(chance, rows)}),
            ("types", {name: values(chance, kind, rows, 1) for name, kind in zip(LETTERS, KINDS, strict=True)}),
            ("rows", {"x": torch.tensor([[chance.randrange(4)] for _ in range(rows)])}),
            ("sum", {"x": torch.tensor([chance.random() for _ in range(rows)])}),
        ]
    )


def wrong(chance: random.Random) -> tuple[str, dict[str, Tensor]]:
    """A request that Triton itself refuses: a shape, a type, an input too much or too few."""
    name, inputs = right(chance)
    first, value = next(iter(inputs.items()))
    changed = chance.choice(
        [
            value.reshape(1, *value.shape),
            value.reshape(-1)[0],
            value[:0] if name != "sum" else value.reshape(-1, 1),
            value.expand(32, *value.shape[1:]) if len(value) == 1 and name != "sum" else value.reshape(1, 1, -1),
            value.to(torch.uint16),
            None,
        ]
    )
    rest = {key: each for key, each in inputs.items() if key != first}
    return name, rest if changed is None else {**rest, first: changed}


def both(
    backends: tuple[Triton, Triton], requests: list[tuple[str, dict[str, Tensor]]]
) -> Iterator[tuple[str, tuple[int, Any], tuple[int, Any]]]:
    """The answers of both to each request; eight are sent at once, so that Triton makes batches of them."""

    def answers(triton: Triton) -> list[tuple[int, Any]]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda each: triton.infer(each[0], **each[1]), requests))

    for (name, _), native, python in zip(requests, *map(answers, backends), strict=True):
        yield name, native, python


def assert_same(name: str, native: tuple[int, Any], python: tuple[int, Any]) -> None:
    assert (name, native[0]) == (name, python[0]), (native[1], python[1])
    if native[0] != 200:
        assert native[1] == python[1]
        return
    assert native[1].keys() == python[1].keys()
    for output, value in native[1].items():
        torch.testing.assert_close(value, python[1][output], rtol=1e-5, atol=1e-6, equal_nan=True)


def test_the_same_answers(backends: tuple[Triton, Triton], seed: int) -> None:
    chance = random.Random(seed)
    for name, native, python in both(backends, [right(chance) for _ in range(400)]):
        assert_same(name, native, python)
        assert native[0] == 200


def test_the_same_refusals(backends: tuple[Triton, Triton], seed: int) -> None:
    """A few of these requests have an answer: no rows, or many rows where that is allowed."""
    chance = random.Random(seed)
    refused = 0
    for name, native, python in both(backends, [wrong(chance) for _ in range(400)]):
        assert_same(name, native, python)
        refused += native[0] == 400
    assert refused > 200


def test_an_index_out_of_range_fails_alone(backends: tuple[Triton, Triton], seed: int) -> None:
    """400 and 500, which is meant; the neighbours in the batch are answered by both."""
    chance = random.Random(seed)
    indices = [chance.choice([0, 1, 2, 3, 4, -1, 2**40]) for _ in range(100)]
    for index, (_, native, python) in zip(
        indices, both(backends, [("rows", {"x": torch.tensor([[index]])}) for index in indices]), strict=True
    ):
        assert (index, native[0], python[0]) == ((index, 200, 200) if 0 <= index < 4 else (index, 400, 500))
        if native[0] == 200:
            assert native[1]["y"].tolist() == python[1]["y"].tolist() == [[1.0]]
        else:
            assert "index out of range" in native[1]
            assert "index out of range" in python[1]
