"""The pytorch backend in C++ inside the real tritonserver: a user's own TorchScript behaves as on NVIDIA's backend."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.bare_triton import (
    FLOAT,
    ONE,
    TYPES,
    Brain,
    Discount,
    Double,
    Embedding,
    Fails,
    Half,
    Louder,
    Same,
    Several,
    Sum,
    Table,
    Three,
    Triton,
    config,
    tensor,
)
from tests.support.eventually import eventually
from tests.support.native_backend import IS_BUILT

pytestmark = pytest.mark.skipif(not IS_BUILT, reason="the native backend is not built: python3 -m serve.triton.runtime")


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


HALVES = {
    "FP16": [1.0, -2.5, 65504.0, 2.0**-24, -0.0, float("inf"), float("nan")],
    "BF16": [1.0, -2.5, 3.3895313892515355e38, 2.0**-133, -0.0, float("inf"), float("nan")],
}


@pytest.mark.parametrize("kind", HALVES)
def test_half_precision_comes_and_goes_in_binary(triton: Triton, kind: str) -> None:
    """The largest and the smallest value, and those that are no numbers, bit by bit; JSON has no form for them."""
    assert triton.add(f"half_{kind}", Same(), config([tensor("x", kind)], [tensor("y", kind)])) == (200, {})
    sent = torch.tensor([[value] for value in HALVES[kind]], dtype=TYPES[kind])
    status, outputs = triton.infer(f"half_{kind}", x=sent)
    assert status == 200, outputs
    assert outputs["y"].dtype == TYPES[kind]
    assert outputs["y"].view(torch.int16).tolist() == sent.view(torch.int16).tolist()


@pytest.mark.parametrize(("kind", "converts"), [("FP16", Half()), ("BF16", Brain())])
def test_half_precision_is_computed_with(triton: Triton, kind: str, converts: nn.Module) -> None:
    """In batches, as an input of a model that computes with it, and as an output made of another type."""
    double = f"double_{kind}"
    batching = "dynamic_batching { max_queue_delay_microseconds: 100000 }"
    assert triton.add(double, Double(), config([tensor("x", kind)], [tensor("y", kind)], more=batching)) == (200, {})
    with ThreadPoolExecutor(4) as threads:
        sent = [torch.tensor([[n + 0.5]], dtype=TYPES[kind]) for n in range(4)]
        answers = list(threads.map(lambda x: triton.infer(double, x=x), sent))
    assert [(status, outputs["y"].tolist()) for status, outputs in answers] == [
        (200, [[2 * n + 1.0]]) for n in range(4)
    ]
    name = f"from_{kind}"
    assert triton.add(name, converts, config([tensor("x", "FP32")], [tensor("y", kind)])) == (200, {})
    status, outputs = triton.infer(name, x=torch.tensor([[1.0], [-2.5], [0.1]]))
    assert (status, outputs["y"].tolist()) == (200, torch.tensor([[1.0], [-2.5], [0.1]], dtype=TYPES[kind]).tolist())
    assert triton.ask(name, x=("FP32", [1, 1], [1.0]))[0] == 400


def test_statistics_count_requests_and_batches(triton: Triton) -> None:
    assert triton.add("counted", Same(), FLOAT)[0] == 200
    for _ in range(3):
        assert triton.ask("counted", x=ONE)[0] == 200

    def counted() -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{triton.port}/v2/models/counted/stats", timeout=60) as answer:
            (statistics,) = json.loads(answer.read())["model_stats"]
        return statistics if statistics["inference_count"] == 3 else None

    statistics = eventually(counted)  # a request is counted after its answer was sent
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
