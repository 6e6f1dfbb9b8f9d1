"""Hostile requests to the pytorch backend in C++: each gets an answer, and nobody is hurt."""

from __future__ import annotations

import json
import os
import random
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.bare_triton import ONE, Embedding, Louder, Same, Triton, config, tensor
from tests.support.native_backend import IS_BUILT

pytestmark = pytest.mark.skipif(not IS_BUILT, reason="the native backend is not built: python3 -m serve.triton.runtime")


SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
    "BYTES": 1,
}


def hostile(random: random.Random, name: str) -> bytes:
    """A request whose type, shape and bytes may all be wrong: the length of its JSON part, that part, the bytes."""
    kind = random.choice(list(SIZES))
    shape = [random.choice([0, 1, 2, 3, 2**31, 2**62]) for _ in range(random.choice([0, 1, 2, 2, 2, 3]))]
    if random.random() < 0.5:
        shape = [random.choice([0, 1, 2]), 1]
    count = 1
    for size in shape:
        count *= size
    right = count * SIZES[kind] if 0 <= count < 1000 else random.randrange(64)
    body = random.randbytes(random.choice([right, right, 0, right + 1]))
    if kind == "BYTES" and random.random() < 0.7:
        words = [random.randbytes(random.choice([0, 0, 5])) for _ in range(max(0, min(count, 10)))]
        body = b"".join(len(word).to_bytes(4, "little") + word for word in words)
    tensor = {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(body)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return len(head).to_bytes(4, "little") + head + body


def test_hostile_requests_are_answered_and_hurt_nobody(triton: Triton) -> None:
    """Every answer is a value or an error, and the server lives; NCF_FUZZ_SECONDS makes it longer."""
    models = {
        f"fuzz_{kind}": (Same(), tensor("x", kind), tensor("y", kind)) for kind in ("FP32", "INT64", "FP16", "BOOL")
    }
    models["fuzz_rows"] = (Embedding(), tensor("x", "INT64"), tensor("y", "FP32"))
    models["fuzz_words"] = (Louder(), tensor("x", "STRING", "[ 1 ]", "reshape: { shape: [ ] }"), tensor("y", "STRING"))
    for name, (module, source, target) in models.items():
        assert triton.add(name, module, config([source], [target], more="dynamic_batching { }")) == (200, {})
    seed = random.randrange(2**32)
    seconds = float(os.environ.get("NCF_FUZZ_SECONDS", "3"))

    def attack(number: int) -> set[int]:
        chance = random.Random(seed + number)
        statuses, until = set(), time.monotonic() + seconds
        while time.monotonic() < until:
            name, body = chance.choice(list(models)), hostile(chance, "x")
            length = int.from_bytes(body[:4], "little")
            request = urllib.request.Request(
                f"http://127.0.0.1:{triton.port}/v2/models/{name}/infer",
                data=body[4:],
                headers={"Inference-Header-Content-Length": str(length)},
                method="POST",
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    statuses.add(answer.status)
            except urllib.error.HTTPError as error:
                statuses.add(error.code)
        return statuses

    with ThreadPoolExecutor(4) as threads:
        statuses = set().union(*threads.map(attack, range(4)))
    assert triton.process.poll() is None, f"seed {seed}: {triton.log.read_text()[-2000:]}"
    assert statuses == {200, 400}, f"seed {seed}"
    assert triton.ask("fuzz_FP32", x=ONE) == (200, {"y": [5.0]})
