"""The models of the tests of the stock container's variables, written in Python, and a look at Triton's metrics."""

from __future__ import annotations

import http.client
from pathlib import Path

from tests.support.small_models import write_model

# `told`: answers the parameters of the request.
TOLD = """
import numpy
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request.parameters().encode()) for request in requests]

    def answer(self, parameters):
        return triton.InferenceResponse([triton.Tensor("TOLD", numpy.array([parameters], dtype=object))])
"""
TOLD_CONFIG = """
backend: "python"
input [ { name: "ANY" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
ANY = {"inputs": [{"name": "ANY", "datatype": "INT32", "shape": [1], "data": [1]}]}

# `chain`: an ensemble of one step, `double`.
CHAIN_CONFIG = """
platform: "ensemble"
max_batch_size: 4
input [ { name: "NUMBER" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "DOUBLE" data_type: TYPE_INT32 dims: [ -1 ] } ]
ensemble_scheduling {
  step [ {
    model_name: "double" model_version: -1
    input_map { key: "NUMBER" value: "NUMBER" } output_map { key: "DOUBLE" value: "DOUBLE" }
  } ]
}
"""


def write_models(path: Path) -> None:
    """`chain` and its step `double`, `told` and `sums`, and one that nobody may need: its configuration is none."""
    for name in ("double", "sums"):
        write_model(name, path / name)
    for name, config in (("chain", CHAIN_CONFIG), ("told", TOLD_CONFIG), ("unread", "{{{")):
        (path / name / "1").mkdir(parents=True)
        (path / name / "config.pbtxt").write_text(config)
    (path / "told" / "1" / "model.py").write_text(TOLD)


def metrics_page(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()
