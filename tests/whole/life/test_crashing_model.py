"""A model that kills tritonserver from inside, because TorchScript runs in its process."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.bare_triton import FLOAT, Deep, Loops, Same, write_torchscript
from tests.support.eventually import eventually
from tests.support.native_backend import IS_BUILT
from tests.support.serving import Answer, Server, children_of
from tests.support.small_models import one

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not IS_BUILT, reason="the native backend is not built: python3 -m serve.triton.runtime"),
]

# One that ends, one that exhausts the stack, and for `loops` one that never ends.
SHALLOW, DEEP, ENDLESS = (one("x", "FP32", value, shape=[1, 1]) for value in (1.0, 5e6, 0.0))
# `loops` does not end with zeros, so a request of another value takes the place of the backend's own check.
WARMUP = """
model_warmup { name: "one" batch_size: 1 inputs { key: "x" value {
  data_type: TYPE_FP32 dims: [ 1 ] input_data_file: "one"
} } }
"""


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Server]:
    """A multi-model endpoint with a model that answers, one that may crash and one that may be busy."""
    with Server(tmp_path, SAGEMAKER_MULTI_MODEL="true", SERVE_MULTI_MODEL_ROOT=str(tmp_path)) as server:
        server.wait_until_ready()
        for name, module, more in (("good", Same(), ""), ("deep", Deep(), ""), ("loops", Loops(), WARMUP)):
            write_torchscript(tmp_path / name / "model", module, FLOAT + more)
            (tmp_path / name / "model" / "warmup").mkdir()
            (tmp_path / name / "model" / "warmup" / "one").write_bytes(struct.pack("f", 1))
            body = json.dumps({"model_name": name, "url": str(tmp_path / name / "model")}).encode()
            assert server.request("POST", "/models", body).status == 200
        yield server


def processor_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_requests_in_flight_are_503_and_the_other_models_answer_again(endpoint: Server) -> None:
    def ask(name: str, body: bytes) -> Answer:
        return endpoint.request("POST", f"/models/{name}/invoke", body)

    triton = children_of(endpoint.process.pid)["tritonserver"]
    assert [ask(name, SHALLOW).status for name in ("good", "deep", "loops")] == [200, 200, 200]
    with ThreadPoolExecutor(2) as pool:
        before = processor_seconds(triton)
        busy = pool.submit(ask, "loops", ENDLESS)
        eventually(lambda: processor_seconds(triton) > before + 0.5)
        killer = ask("deep", DEEP)
        eventually(lambda: endpoint.ping() == 503)
        for answer in (killer, busy.result()):
            assert answer.status == 503
            assert "the inference server" in answer.json["error"]
    endpoint.wait_until_ready()
    assert "tritonserver was killed by SIGSEGV; starting it again (1 of 3)" in endpoint.log.read_text()
    assert children_of(endpoint.process.pid)["tritonserver"] != triton
    assert [ask(name, SHALLOW).json["outputs"][0]["data"] for name in ("good", "deep", "loops")] == [[1.0]] * 3
