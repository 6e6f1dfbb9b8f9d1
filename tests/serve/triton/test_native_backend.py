"""The pytorch backend in C++ inside the real tritonserver: a user's own TorchScript behaves as on NVIDIA's backend."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from serve.triton.runtime import find_runtime
from tests.support.native_backend import IS_BUILT
from tests.support.serving import free_port

pytestmark = pytest.mark.skipif(not IS_BUILT, reason="the native backend is not built: python3 -m serve.triton.runtime")


class Triton:
    """A tritonserver that loads models of a folder by name."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.models.mkdir()
        runtime = find_runtime(folder)
        self.port = free_port()
        command = [
            str(runtime.program),
            *runtime.arguments,
            f"--model-repository={self.models}",
            "--model-control-mode=explicit",
            "--http-address=127.0.0.1",
            f"--http-port={self.port}",
            "--allow-grpc=false",
            "--allow-metrics=false",
        ]
        self.log = folder / "triton.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=runtime.environment, stdout=log, stderr=log)

    def post(self, path: str, document: object = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v2/{path}", data=json.dumps(document or {}).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def add(self, name: str, module: nn.Module | bytes, config: str) -> tuple[int, Any]:
        """Write a model and load it."""
        folder = self.models / name / "1"
        folder.mkdir(parents=True)
        if isinstance(module, bytes):
            (folder / "model.pt").write_bytes(module)
        else:
            torch.jit.script(module).save(str(folder / "model.pt"))
        (folder.parent / "config.pbtxt").write_text(f'platform: "pytorch_libtorch"\n{config}')
        return self.post(f"repository/models/{name}/load")

    def ask(self, name: str, **inputs: tuple[str, list[int], list[Any]]) -> tuple[int, Any]:
        """Each input as (datatype, shape, data) -> the status and each output's data, or the error."""
        tensors = [{"name": n, "datatype": d, "shape": s, "data": v} for n, (d, s, v) in inputs.items()]
        status, answer = self.post(f"models/{name}/infer", {"inputs": tensors})
        if status != 200:
            return status, answer["error"]
        return status, {output["name"]: output["data"] for output in answer["outputs"]}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    server = Triton(tmp_path_factory.mktemp("triton"))
    try:
        while server.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v2/health/live", timeout=1)
                break
            except (OSError, urllib.error.URLError):
                continue
        assert server.process.poll() is None, server.log.read_text()
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)


def tensor(name: str, kind: str, dims: str = "[ 1 ]", more: str = "") -> str:
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: {dims} {more} }}'


def config(inputs: list[str], outputs: list[str], batch: int = 8, more: str = "") -> str:
    return f"max_batch_size: {batch}\ninput [ {', '.join(inputs)} ]\noutput [ {', '.join(outputs)} ]\n{more}"


class Discount(nn.Module):
    def forward(self, price: Tensor, discount: Tensor, mask: Tensor | None = None) -> Tensor:
        total = price - discount
        return total if mask is None else total * mask


class Three(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x, x * 2, x * 3


class Several(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, x + 1]


class Table(nn.Module):
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return inputs["a"] - inputs["b"]


class Louder(nn.Module):
    def forward(self, words: list[str]) -> list[str]:
        return [word + "!" for word in words]


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum().reshape(1)


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 1)
        nn.init.ones_(self.table.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x).squeeze(-1)


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half().to(torch.bfloat16).half()


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("this model always fails")
        return x


ONE = ("FP32", [1, 1], [5.0])
ANSWERED: dict[str, tuple[nn.Module, str, dict[str, Any], dict[str, list[Any]]]] = {
    "arguments_by_name_in_any_order_and_a_default_left_out": (
        Discount(),
        config([tensor("discount", "FP32"), tensor("price", "FP32")], [tensor("total", "FP32")]),
        {"discount": ("FP32", [1, 1], [2.0]), "price": ("FP32", [1, 1], [10.0])},
        {"total": [8.0]},
    ),
    "arguments_by_index": (
        Discount(),
        config([tensor("INPUT__1", "FP32"), tensor("INPUT__0", "FP32")], [tensor("OUTPUT__0", "FP32")]),
        {"INPUT__1": ("FP32", [1, 1], [2.0]), "INPUT__0": ("FP32", [1, 1], [10.0])},
        {"OUTPUT__0": [8.0]},
    ),
    "arguments_in_order": (
        Discount(),
        config([tensor("first", "FP32"), tensor("second", "FP32")], [tensor("out", "FP32")]),
        {"first": ("FP32", [1, 1], [2.0]), "second": ("FP32", [1, 1], [10.0])},
        {"out": [-8.0]},
    ),
    "a_dictionary": (
        Table(),
        config([tensor("a", "FP32"), tensor("b", "FP32")], [tensor("out", "FP32")]),
        {"a": ("FP32", [1, 1], [2.0]), "b": ("FP32", [1, 1], [10.0])},
        {"out": [-8.0]},
    ),
    "two_of_three_outputs_by_index": (
        Three(),
        config([tensor("x", "FP32")], [tensor("OUTPUT__2", "FP32"), tensor("OUTPUT__0", "FP32")]),
        {"x": ONE},
        {"OUTPUT__0": [5.0], "OUTPUT__2": [15.0]},
    ),
    "a_list_of_outputs": (
        Several(),
        config([tensor("x", "FP32")], [tensor("same", "FP32"), tensor("next", "FP32")]),
        {"x": ONE},
        {"same": [5.0], "next": [6.0]},
    ),
    "strings": (
        Louder(),
        config(
            [tensor("words", "STRING", "[ 1 ]", "reshape: { shape: [ ] }")],
            [tensor("out", "STRING", "[ 1 ]")],
        ),
        {"words": ("BYTES", [3, 1], ["a", "", "é☃z"])},
        {"out": ["a!", "!", "é☃z!"]},
    ),
    "no_batch_dimension": (
        Sum(),
        config([tensor("x", "FP32", "[ -1 ]")], [tensor("sum", "FP32")], batch=0),
        {"x": ("FP32", [3], [1.0, 2.0, 4.0])},
        {"sum": [7.0]},
    ),
    "parameters": (
        Same(),
        config(
            [tensor("x", "FP32")],
            [tensor("y", "FP32")],
            more="".join(
                f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'
                for key, value in {
                    "INTRA_OP_THREAD_COUNT": 2,
                    "INTER_OP_THREAD_COUNT": 2,
                    "DISABLE_OPTIMIZED_EXECUTION": "true",
                    "INFERENCE_MODE": "false",
                    "ENABLE_JIT_PROFILING": "true",
                    "ENABLE_JIT_EXECUTOR": "true",
                    "UNKNOWN": "x",
                }.items()
            ),
        ),
        {"x": ONE},
        {"y": [5.0]},
    ),
    **{
        f"type_{kind}": (
            Same(),
            config([tensor("x", kind)], [tensor("y", kind)]),
            {"x": (kind, [2, 1], values)},
            {"y": values},
        )
        for kind, values in {
            "BOOL": [True, False],
            "UINT8": [0, 255],
            "INT8": [-128, 127],
            "INT16": [-32768, 32767],
            "INT32": [-(2**31), 2**31 - 1],
            "INT64": [-(2**53), 2**53],
            "UINT16": [0, 65535],
            "UINT32": [0, 2**32 - 1],
            "FP64": [0.1, -1e300],
        }.items()
    },
}


@pytest.mark.parametrize("name", ANSWERED)
def test_what_torchscript_may_look_like(triton: Triton, name: str) -> None:
    module, configuration, inputs, expected = ANSWERED[name]
    assert triton.add(name, module, configuration) == (200, {})
    assert triton.ask(name, **inputs) == (200, expected)


FLOAT = config([tensor("x", "FP32")], [tensor("y", "FP32")])
REFUSED: dict[str, tuple[nn.Module | bytes, str, str]] = {
    "some_names_fit_and_some_do_not": (
        Discount(),
        config([tensor("price", "FP32"), tensor("rebate", "FP32")], [tensor("total", "FP32")]),
        "input rebate has no argument in forward",
    ),
    "one_input_for_a_forward_of_two": (
        Discount(),
        config([tensor("price", "FP32")], [tensor("total", "FP32")]),
        "no input is configured for forward's argument discount",
    ),
    "more_inputs_than_arguments": (
        Same(),
        config([tensor("a", "FP32"), tensor("b", "FP32")], [tensor("y", "FP32")]),
        "input b has no argument in forward, which takes 1",
    ),
    "another_output_type": (
        Same(),
        config([tensor("x", "INT64")], [tensor("y", "FP32")]),
        "output y is configured as TYPE_FP32, but forward returned Long",
    ),
    "another_number_of_outputs": (Three(), FLOAT, "forward returned 3 outputs, config.pbtxt names 1"),
    "an_output_beyond_the_last": (
        Three(),
        config([tensor("x", "FP32")], [tensor("OUTPUT__3", "FP32")]),
        "output OUTPUT__3 does not exist",
    ),
    "strings_for_a_tensor": (
        Same(),
        config([tensor("x", "STRING")], [tensor("y", "FP32")]),
        "a TYPE_STRING input needs List[str]",
    ),
    "a_model_that_always_fails": (Fails(), FLOAT, "this model always fails"),
    "no_torchscript": (b"this is no TorchScript", FLOAT, "cannot be loaded as TorchScript"),
    "an_empty_file": (b"", FLOAT, "cannot be loaded as TorchScript"),
    "no_inputs_configured": (Same(), "max_batch_size: 8\n", "config.pbtxt must name every input and output"),
    "ragged_batches": (
        Same(),
        config([tensor("x", "FP32", "[ -1 ]", "allow_ragged_batch: true")], [tensor("y", "FP32", "[ -1 ]")]),
        "allow_ragged_batch is not supported",
    ),
    "a_thread_count_that_is_none": (
        Same(),
        FLOAT + 'parameters { key: "INTRA_OP_THREAD_COUNT" value: { string_value: "two" } }',
        'INTRA_OP_THREAD_COUNT is "two"; write a whole number from 1',
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_at_load_and_says_why(triton: Triton, name: str) -> None:
    module, configuration, words = REFUSED[name]
    status, answer = triton.add(f"refused_{name}", module, configuration)
    assert status == 400
    assert words in answer["error"], answer["error"]


def test_an_index_out_of_range_is_the_callers_mistake_and_costs_no_neighbour(triton: Triton) -> None:
    batching = "dynamic_batching { max_queue_delay_microseconds: 200000 }"
    assert (
        triton.add("rows", Embedding(), config([tensor("x", "INT64")], [tensor("y", "FP32")], more=batching))[0] == 200
    )

    def ask(index: int) -> tuple[int, Any]:
        return triton.ask("rows", x=("INT64", [1, 1], [index]))

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, [0, 99, 3, 2]))
    assert [status for status, _ in answers] == [200, 400, 200, 200]
    assert "index out of range" in answers[1][1]
    assert "\n" not in answers[1][1]


def test_half_precision_keeps_its_type(triton: Triton) -> None:
    """FP16 has no form in JSON, so the model converts and the output is asked for as binary."""
    assert triton.add("half", Half(), config([tensor("x", "FP32")], [tensor("y", "FP16")]))[0] == 200
    document = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1.0, -2.5]}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{triton.port}/v2/models/half/infer", data=json.dumps(document).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        length = int(answer.headers["Inference-Header-Content-Length"])
        body = answer.read()
    assert torch.frombuffer(bytearray(body[length:]), dtype=torch.float16).tolist() == [1.0, -2.5]


def test_statistics_count_requests_and_batches(triton: Triton) -> None:
    assert triton.add("counted", Same(), FLOAT)[0] == 200
    for _ in range(3):
        assert triton.ask("counted", x=ONE)[0] == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{triton.port}/v2/models/counted/stats", timeout=60) as answer:
        (statistics,) = json.loads(answer.read())["model_stats"]
    assert statistics["inference_count"] == 3
    assert statistics["inference_stats"]["success"]["count"] == 3
    assert statistics["batch_stats"][0]["batch_size"] == 1


def test_a_model_that_is_unloaded_gives_its_weights_back(triton: Triton) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(25_000_000))  # 100 MB

        def forward(self, x: Tensor) -> Tensor:
            return x + self.weight[0]

    def resident() -> int:
        (line,) = [
            line for line in Path(f"/proc/{triton.process.pid}/status").read_text().splitlines() if "VmRSS" in line
        ]
        return int(line.split()[1]) * 1024

    before = resident()
    assert triton.add("large", Large(), FLOAT)[0] == 200
    assert resident() - before > 90_000_000
    assert triton.post("repository/models/large/unload")[0] == 200
    for _ in range(600):
        if resident() - before < 20_000_000:
            break
        triton.post("repository/index")
    assert resident() - before < 20_000_000


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
