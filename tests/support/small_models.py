"""Small models for Triton's Python backend, and requests to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# `sums`: two inputs, batches; its first number says what goes wrong. The texts of errors decide about 507 (C70).
SUMS = """
import pathlib
import time

import triton_python_backend_utils as triton

FAILURES = {666: "refused on demand", 667: "CUDA out of memory", 668: "No space left on device"}


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        left, right = (triton.get_input_tensor_by_name(request, name).as_numpy() for name in ("LEFT", "RIGHT"))
        if left.size and int(left.flat[0]) in FAILURES:
            return triton.InferenceResponse(error=triton.TritonError(FAILURES[int(left.flat[0])]))
        if left.size and left.flat[0] == 669:
            raise RuntimeError("raised on demand")
        if left.size and left.flat[0] == 670:
            pathlib.Path(__file__).with_name("busy").touch()
            time.sleep(1)
        sums, differences = triton.Tensor("SUM", left + right), triton.Tensor("DIFFERENCE", left - right)
        return triton.InferenceResponse([sums, differences])
"""
SUMS_CONFIG = """
backend: "python"
max_batch_size: 4
input [ { name: "LEFT" data_type: TYPE_INT32 dims: [ 3 ] }, { name: "RIGHT" data_type: TYPE_INT32 dims: [ 3 ] } ]
output [ { name: "SUM" data_type: TYPE_INT32 dims: [ 3 ] }, { name: "DIFFERENCE" data_type: TYPE_INT32 dims: [ 3 ] } ]
dynamic_batching { }
instance_group [ { kind: KIND_CPU } ]
"""

# `echo`: any of its inputs, in shapes of the caller's choice, and no batches.
ECHO = """
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        return [
            triton.InferenceResponse([triton.Tensor(f"{t.name()}_OUT", t.as_numpy()) for t in request.inputs()])
            for request in requests
        ]
"""
ECHO_TYPES = {"TEXT": "STRING", "REAL": "FP64", "SINGLE": "FP32", "HALF": "FP16", "FLAG": "BOOL", "BIG": "UINT64"}
ECHO_INPUTS = ", ".join(
    f'{{ name: "{n}" data_type: TYPE_{t} dims: [ -1 ] optional: true }}' for n, t in ECHO_TYPES.items()
)
ECHO_OUTPUTS = ", ".join(f'{{ name: "{n}_OUT" data_type: TYPE_{t} dims: [ -1 ] }}' for n, t in ECHO_TYPES.items())
ECHO_CONFIG = f"""
backend: "python"
input [ {ECHO_INPUTS} ]
output [ {ECHO_OUTPUTS} ]
instance_group [ {{ kind: KIND_CPU }} ]
"""

# `double`: the one input that a raw request needs (C49).
DOUBLE = """
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        return [
            triton.InferenceResponse([triton.Tensor("DOUBLE", 2 * request.inputs()[0].as_numpy())])
            for request in requests
        ]
"""
DOUBLE_CONFIG = """
backend: "python"
max_batch_size: 4
input [ { name: "NUMBER" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "DOUBLE" data_type: TYPE_INT32 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""

# `repeat`: decoupled, two responses to one request (C63).
REPEAT = """
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for _ in range(2):
                sender.send(triton.InferenceResponse([triton.Tensor("OUT", request.inputs()[0].as_numpy())]))
            sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
REPEAT_CONFIG = """
backend: "python"
input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] } ]
model_transaction_policy { decoupled: true }
instance_group [ { kind: KIND_CPU } ]
"""

# `chain`: an ensemble of one step, `double`.
CHAIN_CONFIG = """
platform: "ensemble"
max_batch_size: 4
input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] } ]
ensemble_scheduling { step [ {
  model_name: "double" model_version: -1
  input_map { key: "NUMBER" value: "IN" } output_map { key: "DOUBLE" value: "OUT" }
} ] }
"""

# `broken` and `starved` cannot be loaded, the second for want of memory (C68).
BROKEN = 'raise ImportError("broken on purpose")\n'
STARVED = 'raise MemoryError("out of memory on purpose")\n'

# `slow`: SECONDS is how long the answer takes, or, if negative, it waits for a file `go` beside model.py. The sum of
# both inputs shows that an answer belongs to its request.
SLOW = """
import pathlib
import time

import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        time.sleep({load_seconds})

    def execute(self, requests):
        answers = []
        for request in requests:
            seconds, number = (triton.get_input_tensor_by_name(request, name).as_numpy() for name in ("SECONDS", "X"))
            while seconds.max() < 0 and not pathlib.Path(__file__).with_name("go").exists():
                time.sleep(0.01)
            time.sleep(max(0, float(seconds.max())))
            answers.append(triton.InferenceResponse([triton.Tensor("Y", seconds + number)]))
        return answers
"""
SLOW_CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "SECONDS" data_type: TYPE_FP32 dims: [ 1 ] }, { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""

# `words`: decoupled; each word of PROMPT is an answer; the word `fail` is an error, `wait` takes a second.
WORDS = """
import json
import time

import numpy
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            prompt = triton.get_input_tensor_by_name(request, "PROMPT").as_numpy().flat[0].decode()
            for word in prompt.split():
                if request.is_cancelled():
                    break
                if word == "wait":
                    time.sleep(1)
                if word == "fail":
                    sender.send(triton.InferenceResponse(error=triton.TritonError("failed on demand")))
                    continue
                if word == "refuse":
                    sender.send(triton.InferenceResponse(error=triton.TritonError("Invalid argument: no such word")))
                    continue
                sender.send(triton.InferenceResponse([triton.Tensor("TEXT", numpy.array([word], dtype=object))]))
            sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
WORDS_CONFIG = """
backend: "python"
input [
  { name: "PROMPT" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "STREAM" data_type: TYPE_BOOL dims: [ 1 ] optional: true }
]
output [ { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
model_transaction_policy { decoupled: true }
"""


MODELS = {
    "sums": (SUMS_CONFIG, SUMS),
    "echo": (ECHO_CONFIG, ECHO),
    "double": (DOUBLE_CONFIG, DOUBLE),
    "repeat": (REPEAT_CONFIG, REPEAT),
    "chain": (CHAIN_CONFIG, ""),
    "broken": (DOUBLE_CONFIG, BROKEN),
    "starved": (DOUBLE_CONFIG, STARVED),
    "slow": (SLOW_CONFIG, SLOW),
    "words": (WORDS_CONFIG, WORDS),
}


def write_model(kind: str, folder: Path, **values: object) -> None:
    """Version 1 of one of `MODELS` with its configuration; `folder` is the model's own and does not exist yet.

    A value takes the place of its name in braces in the source.
    """
    config, source = MODELS[kind]
    for name, value in values.items():
        source = source.replace(f"{{{name}}}", str(value))
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    (folder / "1" / "model.py").write_text(source)


def slow_model(repository: Path, name: str = "slow", load_seconds: float = 0) -> Path:
    """A model that answers after SECONDS with SECONDS + X; its folder."""
    write_model("slow", repository / name, load_seconds=load_seconds)
    return repository / name


def words_model(repository: Path, name: str = "words") -> Path:
    """A model that answers with each word of PROMPT in turn; its folder."""
    write_model("words", repository / name)
    return repository / name


def tensor(name: str, data: Any, shape: Any = (1, 3), datatype: Any = "INT32", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}


def raw_tensor(name: str, size: Any = 12, shape: Any = (1, 3), datatype: str = "INT32", **more: Any) -> dict[str, Any]:
    """A tensor whose `size` bytes stand behind the JSON part."""
    return {
        "name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}, **more
    }  # fmt: skip


def asked(*tensors: dict[str, Any], **more: Any) -> bytes:
    """A KServe-v2 request."""
    return json.dumps({"inputs": tensors, **more}).encode()


LEFT, RIGHT = tensor("LEFT", [[1, 2, 3]]), tensor("RIGHT", [4, 5, 6])


def sums(left: dict[str, Any] = LEFT, right: dict[str, Any] = RIGHT, **more: Any) -> bytes:
    """A request to `sums`."""
    return asked(left, right, **more)


def left(**changes: Any) -> bytes:
    """A request to `sums` with another first input."""
    return sums({**LEFT, **changes})


def output(name: Any = "SUM", **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": parameters}


def one(name: str, datatype: str, *values: Any, shape: Any = None) -> bytes:
    """A request with one input."""
    return asked(tensor(name, values, [len(values)] if shape is None else shape, datatype))


def slow_body(seconds: float, number: float) -> dict[str, object]:
    """A KServe-v2 request to the slow model."""
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [1, 1], "data": [value]}
        for name, value in (("SECONDS", seconds), ("X", number))
    ]
    return {"inputs": inputs}


SHARED = {"shared_memory_region": "r", "shared_memory_byte_size": 12}
