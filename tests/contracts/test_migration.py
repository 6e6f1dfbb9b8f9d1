"""docs/migration.md: requests and repositories in the form of hand-made workshops are served unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.http
from torch import Tensor, nn

from tests.support.serving import Answer, Server

pytestmark = pytest.mark.e2e

OCTETS = {"Content-Type": "application/octet-stream"}
CONFIG = """
name: "{name}"
platform: "pytorch_libtorch"
max_batch_size: {batch}
input [
  {{ name: "INPUT__0" data_type: TYPE_INT64 dims: [ 100 ] }},
  {{ name: "INPUT__1" data_type: TYPE_INT64 dims: [ 100 ] }}
]
output [ {{ name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 100 ] }} ]
"""
USERS, ITEMS = np.full(100, 3, np.int64), np.arange(100, dtype=np.int64)


class Product(nn.Module):
    """Users and items int64 of one shape -> scores float32 of the same shape: user + factor · item."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return user + self.factor * item


def write_models(folder: Path) -> None:
    """The food model has no batches, the fashion model has them: both forms of `dims: [ 100 ]`."""
    for name, batch, factor in (("ncf_food_model", 0, 0.5), ("ncf_fashion_model", 8, 2.0)):
        version = folder / name / "1"
        version.mkdir(parents=True)
        pair = (torch.zeros(100, dtype=torch.int64),) * 2
        torch.jit.trace(Product(factor), pair).save(version / "model.pt")  # type: ignore[no-untyped-call]
        (folder / name / "config.pbtxt").write_text(CONFIG.format(name=name, batch=batch))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of two models, named by the variable that AWS's own Triton image reads."""
    repository = tmp_path_factory.mktemp("workshop")
    write_models(repository)
    with Server(repository, SAGEMAKER_TRITON_DEFAULT_MODEL_NAME="ncf_food_model") as running:
        running.wait_until_ready()
        yield running


def asked(*shape: int, **fields: Any) -> bytes:
    values = {"INPUT__0": USERS, "INPUT__1": ITEMS}
    tensors = [{"name": n, "shape": shape, "datatype": "INT64", "data": v.tolist()} for n, v in values.items()]
    return json.dumps({**fields, "inputs": tensors}).encode()


def scores(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    assert output["name"] == "OUTPUT__0"
    return output["data"]


def test_json_as_octets_of_the_fixed_size(server: Server) -> None:
    assert scores(server.invoke(asked(100), OCTETS)) == pytest.approx((3 + 0.5 * ITEMS).tolist())


def test_two_models_on_a_multi_model_endpoint(tmp_path: Path) -> None:
    """Archives as the hand-made notebooks pack them: the folder of the model lies in the archive."""
    root = tmp_path / "models"
    write_models(tmp_path)
    for name in ("ncf_food_model", "ncf_fashion_model"):
        (root / name / "model").mkdir(parents=True)
        (tmp_path / name).rename(root / name / "model" / name)
    with Server(tmp_path, SAGEMAKER_MULTI_MODEL="true", SERVE_MULTI_MODEL_ROOT=str(root)) as server:
        server.wait_until_ready()
        for name, shape, factor in (("ncf_food_model", (100,), 0.5), ("ncf_fashion_model", (1, 100), 2.0)):
            load = json.dumps({"model_name": name, "url": str(root / name / "model")}).encode()
            assert server.request("POST", "/models", load).status == 200
            answer = server.request("POST", f"/models/{name}/invoke", asked(*shape), OCTETS)
            assert scores(answer) == pytest.approx((3 + factor * ITEMS).tolist())


def test_a_model_that_is_not_served_is_refused_with_those_that_are(server: Server) -> None:
    answer = server.invoke(asked(1, 100, model="ncf_fashion_model"), OCTETS)
    assert answer.status == 404
    assert "ncf_food_model" in answer.json["error"]


def test_binary_body_of_the_triton_client(server: Server) -> None:
    inputs = [tritonclient.http.InferInput(f"INPUT__{n}", [100], "INT64") for n in (0, 1)]
    for one, values in zip(inputs, (USERS, ITEMS), strict=True):
        one.set_data_from_numpy(values)
    body, size = tritonclient.http.InferenceServerClient.generate_request_body(inputs)
    kind = f"application/vnd.sagemaker-triton.binary+json;json-header-size={size}"
    answer = server.invoke(body, {"Content-Type": kind})
    assert answer.status == 200, answer.body
    head = int(answer.headers["content-type"].rpartition("=")[2])
    result = tritonclient.http.InferenceServerClient.parse_response_body(answer.body, header_length=head)
    assert np.allclose(result.as_numpy("OUTPUT__0"), 3 + 0.5 * ITEMS)


def test_another_size_than_the_fixed_one_is_refused_with_both(server: Server) -> None:
    body = json.loads(asked(100))
    for tensor in body["inputs"]:
        tensor.update(shape=[7], data=tensor["data"][:7])
    answer = server.invoke(json.dumps(body).encode(), OCTETS)
    assert answer.status == 400
    assert "[100]" in answer.json["error"]
    assert "[7]" in answer.json["error"]
