"""Small models for Triton's Python backend, written into a repository: one that is slow on demand, one that streams."""

from __future__ import annotations

from pathlib import Path

# SECONDS: how long the answer takes. The sum of both inputs shows that an answer belongs to its request.
SLOW = """
import time

import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        time.sleep({load_seconds})

    def execute(self, requests):
        answers = []
        for request in requests:
            seconds, number = (triton.get_input_tensor_by_name(request, name).as_numpy() for name in ("SECONDS", "X"))
            time.sleep(float(seconds.max()))
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

# Decoupled: each word of PROMPT is an answer; the word `fail` is an error, `wait` takes a second.
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


def write_model(repository: Path, name: str, code: str, config: str) -> Path:
    """A model of one version; its folder."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(code)
    (folder / "config.pbtxt").write_text(config)
    return folder


def slow_model(repository: Path, name: str = "slow", load_seconds: float = 0) -> Path:
    """Answers after SECONDS with SECONDS + X."""
    return write_model(repository, name, SLOW.replace("{load_seconds}", str(load_seconds)), SLOW_CONFIG)


def words_model(repository: Path, name: str = "words") -> Path:
    """Answers with each word of PROMPT in turn."""
    return write_model(repository, name, WORDS, WORDS_CONFIG)


def slow_body(seconds: float, number: float) -> dict[str, object]:
    """A KServe-v2 request to the slow model."""
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [1, 1], "data": [value]}
        for name, value in (("SECONDS", seconds), ("X", number))
    ]
    return {"inputs": inputs}
