"""Hostile requests to the pytorch backend in C++: each gets an answer, and nobody is hurt.

`NCF_FUZZ_SECONDS=600 python -m pytest tests/serve/triton/test_native_backend_hostile.py` does it for ten minutes.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch import nn

from serve.triton.failures import NOT_READ
from tests.support.bare_triton import (
    ONE,
    TYPES,
    Discount,
    Embedding,
    Louder,
    Same,
    Sum,
    Table,
    Three,
    Triton,
    config,
    tensor,
)
from tests.support.native_backend import IS_BUILT

pytestmark = pytest.mark.skipif(not IS_BUILT, reason="the native backend is not built: python3 -m serve.triton.runtime")

SIZES = {**{kind: dtype.itemsize for kind, dtype in TYPES.items()}, "BYTES": 1}
ANY = "[ -1 ]"
WORDS = tensor("x", "STRING", "[ 1 ]", "reshape: { shape: [ ] }")
TWO = [tensor("a", "FP32"), tensor("b", "FP32", more="optional: true")]
MAY_BE_500 = re.compile(f"{NOT_READ.pattern}|RuntimeError: The size of tensor a")
BATCHING = "dynamic_batching { }"
MODELS: dict[str, tuple[nn.Module, str]] = {
    **{kind: (Same(), config([tensor("x", kind)], [tensor("y", kind)], more=BATCHING)) for kind in TYPES},
    **{
        f"{kind}_flat": (Same(), config([tensor("x", kind, ANY)], [tensor("y", kind, ANY)], 0))
        for kind in ("FP32", "BF16")
    },
    "any_shape": (
        Same(),
        config([tensor("x", "INT8", "[ -1, -1 ]")], [tensor("y", "INT8", "[ -1, -1 ]")], more=BATCHING),
    ),
    "rows": (Embedding(), config([tensor("x", "INT64")], [tensor("y", "FP32")], more=BATCHING)),
    "sum": (Sum(), config([tensor("x", "FP32", ANY)], [tensor("y", "FP32")], 0)),
    "words": (Louder(), config([WORDS], [tensor("y", "STRING")], more=BATCHING)),
    "words_flat": (Louder(), config([tensor("x", "STRING", ANY)], [tensor("y", "STRING", ANY)], 0)),
    "two": (Table(), config(TWO, [tensor("y", "FP32")], more=BATCHING)),
    "three": (
        Three(),
        config([tensor("x", "FP32")], [tensor(f"OUTPUT__{n}", "FP32") for n in (2, 0, 1)], more=BATCHING),
    ),
    "discount": (
        Discount(),
        config([tensor(name, "FP32", ANY) for name in ("price", "discount")], [tensor("y", "FP32", ANY)], 0),
    ),
}
NAMES = ("x", "a", "b", "price", "discount", "", "x" * 300)
OUTPUTS = ("y", "OUTPUT__0", "OUTPUT__1", "none", "")


def hostile(chance: random.Random, name: str) -> tuple[bytes, bytes]:
    """A request to a model whose names, types, shapes and bytes may all be wrong: its JSON part, and the bytes."""
    right = {"two": ["a", "b"], "discount": ["price", "discount"]}.get(name, ["x"])
    names = right if chance.random() < 0.8 else chance.choices(NAMES, k=chance.choice([0, 1, 2, 2, 3]))
    kind = name.partition("_")[0]
    if kind not in SIZES:
        kind = {"words": "BYTES", "rows": "INT64", "any": "INT8"}.get(kind, "FP32")
    shapes = [shape(chance, name) for _ in range(2)]
    inputs, rest = [], b""
    for each in names:
        mine = kind if chance.random() < 0.8 else chance.choice(list(SIZES))
        wanted, data = content(chance, mine, shapes[0] if chance.random() < 0.9 else shapes[1])
        document: dict[str, Any] = {"name": each, "datatype": mine, "shape": wanted}
        if isinstance(data, bytes):
            document["parameters"] = {"binary_data_size": len(data)}
            rest += data
        else:
            document["data"] = data
        inputs.append(document)
    asked: dict[str, Any] = {"inputs": inputs}
    if chance.random() < 0.3:
        asked["outputs"] = [
            {"name": each, "parameters": {"binary_data": chance.random() < 0.5}}
            for each in chance.choices(OUTPUTS, k=chance.randint(0, 3))
        ]
    if chance.random() < 0.5:
        asked["parameters"] = {"binary_data_output": True}
    return json.dumps(asked).encode(), rest


def shape(chance: random.Random, name: str) -> list[int]:
    flat = name in ("sum", "discount") or name.endswith("_flat")
    usual = {True: [chance.randrange(4)], False: [chance.randrange(4), 1]}[flat]
    if name == "any_shape":
        usual = [chance.randrange(4), chance.choice([0, 1, 2, 2**31]), chance.choice([0, 1, 2, 2**31])]
    wild = [chance.choice([-1, 0, 1, 2, 3, 9, 2**31, 2**62, 2**63 - 1]) for _ in range(chance.randrange(4))]
    return usual if chance.random() < 0.7 else wild


def content(chance: random.Random, kind: str, wanted: list[int]) -> tuple[list[int], bytes | list[Any]]:
    """A shape and data for it, in half of the cases as JSON. There Triton itself allocates what a shape asks for, which
    can kill it (`serve` refuses such bodies), so a large shape comes in bytes only, as do types that JSON has not."""
    count = 1
    for size in wanted:
        count *= size
    small = 0 <= count < 1000
    if small and count and kind not in ("FP16", "BF16") and chance.random() < 0.5:
        value = {"BOOL": True, "BYTES": chance.choice(["", "é☃", "x" * 70])}.get(kind, 1.5 if "FP" in kind else 1)
        return wanted, [value] * (count + chance.choice([0, 0, 0, 1, -1]))
    right = count * SIZES[kind] if small else chance.randrange(64)
    if kind == "BYTES" and chance.random() < 0.7:
        words = [chance.randbytes(chance.choice([0, 0, 5])) for _ in range(count if small else 3)]
        return wanted, b"".join(len(word).to_bytes(4, "little") + word for word in words)
    return wanted, chance.randbytes(max(0, chance.choice([right, right, right, 0, right + 1, right - 1])))


def test_hostile_requests_are_answered_and_hurt_nobody(triton: Triton, seed: int) -> None:
    """Every answer is a value or an error, and the server lives; NCF_FUZZ_SECONDS makes it longer."""
    for name, (module, configuration) in MODELS.items():
        assert triton.add(name, module, configuration) == (200, {})
    seconds = float(os.environ.get("NCF_FUZZ_SECONDS", "5"))

    def attack(number: int) -> list[tuple[str, int, str]]:
        chance = random.Random(seed + number)
        seen, until = [], time.monotonic() + seconds
        while time.monotonic() < until:
            name = chance.choice(list(MODELS))
            head, rest = hostile(chance, name)
            status, answer, _ = triton.send(name, head, rest)
            seen.append((name, status, "" if status == 200 else json.loads(answer)["error"]))
        return seen

    with ThreadPoolExecutor(4) as threads:
        seen = [each for all_of_one in threads.map(attack, range(4)) for each in all_of_one]
    assert triton.process.poll() is None, triton.log.read_text()[-2000:]
    print(len(seen), "requests")
    # Triton itself answers 500 to JSON data of another shape or type, which never reaches the backend; and `discount`
    # fails with inputs of two sizes.
    assert [each for each in seen if each[1] not in (200, 400) and not MAY_BE_500.match(each[2])] == []
    answered = {name for name, status, _ in seen if status == 200}
    assert answered == set(MODELS)
    assert triton.ask("FP32", x=ONE) == (200, {"y": [5.0]})
