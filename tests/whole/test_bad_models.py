"""Models that cannot answer: each is refused in one line that names its file, the cause and the remedy."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.bare_triton import (
    FLOAT,
    Fails,
    Loops,
    Same,
    Three,
    config,
    saved,
    tensor,
    write_torchscript,
)
from tests.support.native_backend import IS_BUILT
from tests.support.serving import Answer, Server, run_serve
from tests.support.small_models import one

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not IS_BUILT, reason="the native backend is not built: python3 -m serve.triton.runtime"),
]


class Mean(nn.Module):
    """Merges the rows of all callers into one."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0, keepdim=True)


class Whole(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.long()


def of_a_newer_torch() -> bytes:
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(Same()))) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"99\n" if name.endswith("/version") else source.read(name))
    return changed.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save(Same().state_dict(), buffer)
    return buffer.getvalue()


FILE = "{folder}/1/model.pt"
BAD: dict[str, tuple[nn.Module | bytes, str, str]] = {
    "newer": (
        of_a_newer_torch(),
        FLOAT,
        f"{FILE} cannot be loaded as TorchScript: Attempted to read a PyTorch file with version 99, but the maximum "
        "supported version for reading is 10; export it with torch 2.13.0 or an older one",
    ),
    "cut": (
        saved(Same())[:-100],
        FLOAT,
        f"{FILE} cannot be loaded as TorchScript: PytorchStreamReader failed reading zip archive: failed finding "
        "central directory; copy it again, or export the model again",
    ),
    "pickle": (
        pickled(),
        FLOAT,
        f"{FILE} cannot be loaded as TorchScript: PytorchStreamReader failed locating file constants.pkl: file not "
        "found; write it with torch.jit.script(model).save(), not with torch.save()",
    ),
    "unfit": (
        Same(),
        config([tensor("x", "FP32"), tensor("z", "FP32")], [tensor("y", "FP32")]),
        f"{FILE} does not fit its config.pbtxt: input z has no argument in forward, which takes 1: name the inputs as "
        "forward names its arguments",
    ),
    "ragged": (
        Same(),
        config([tensor("x", "FP32", more="allow_ragged_batch: true")], [tensor("y", "FP32")]),
        "{folder}/config.pbtxt: x: allow_ragged_batch is not supported; pad the input",
    ),
    "raises": (
        Fails(),
        FLOAT,
        f"{FILE} failed in a call with zeros: builtins.RuntimeError: this model always fails; if zeros are no valid "
        "input of it, configure a model_warmup",
    ),
    "outputs": (
        Three(),
        FLOAT,
        f"{FILE} does not fit its config.pbtxt: forward returned 3 outputs, config.pbtxt names 1",
    ),
    "type": (
        Whole(),
        FLOAT,
        f"{FILE} does not fit its config.pbtxt: output y is configured as TYPE_FP32, but forward returned Long",
    ),
    "rows": (
        Mean(),
        FLOAT,
        f"{FILE} does not fit its config.pbtxt: output y is configured as TYPE_FP32, but forward returned the shape "
        "[1, 1] for 2 rows",
    ),
}
LOOPS = (
    f"{FILE} did not end a call with zeros within 20 s, and uses a processor core until tritonserver is started "
    "again; if it does not loop but is slow, configure a model_warmup, which takes the place of this call"
)
ASK = one("x", "FP32", 5.0, shape=[1, 1])


class Endpoint:
    """A multi-model endpoint with a good model, and a load of a model that never ends, begun and not answered."""

    def __init__(self, root: Path, pool: ThreadPoolExecutor) -> None:
        self.root = root
        settings = {"SAGEMAKER_MULTI_MODEL": "true", "SERVE_MULTI_MODEL_ROOT": str(root), "NCF_PROBE_SECONDS": "20"}
        self.server = Server(root, **settings)
        self.pool = pool

    def load(self, name: str, module: nn.Module | bytes, config: str = FLOAT) -> Answer:
        folder = self.root / name / "model"
        write_torchscript(folder, module, config)
        document = {"model_name": name, "url": str(folder)}
        return self.server.request("POST", "/models", json.dumps(document).encode(), seconds=350)

    def answers(self) -> bool:
        answer = self.server.request("POST", "/models/good/invoke", ASK)
        return answer.status == 200 and answer.json["outputs"][0]["data"] == [5.0]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with ThreadPoolExecutor(1) as pool:
        new = Endpoint(tmp_path_factory.mktemp("models"), pool)
        with new.server:
            new.server.wait_until_ready()
            assert new.load("good", Same()).status == 200
            yield new


@pytest.fixture(scope="module")
def endless(endpoint: Endpoint) -> Future[Answer]:
    """The load of a model that never ends: it goes on while the other tests run, and the last one waits for it."""
    return endpoint.pool.submit(endpoint.load, "loops", Loops())


def lines_about(server: Server, text: str) -> list[str]:
    return [line for line in server.log.read_text().splitlines() if text in line]


@pytest.mark.parametrize("name", BAD)
def test_a_multi_model_endpoint_refuses_it(endpoint: Endpoint, endless: Future[Answer], name: str) -> None:
    module, configuration, words = BAD[name]
    answer = endpoint.load(name, module, configuration)
    reason = words.format(folder=endpoint.root / name / "model")
    assert answer.status == 400
    assert answer.json["error"].endswith(reason), answer.json["error"]
    assert "\n" not in answer.json["error"]
    (line,) = lines_about(endpoint.server, f"{name} is not loaded")
    assert line.endswith(reason)
    assert endpoint.answers()
    assert endpoint.server.ping() == 200


def test_several_models_of_a_repository_and_one_that_answers(tmp_path: Path) -> None:
    write_torchscript(tmp_path / "good", Same(), FLOAT)
    for name, (module, configuration, _) in BAD.items():
        write_torchscript(tmp_path / name, module, configuration)
    flags = " ".join(f"--load-model={name}" for name in BAD)
    settings = {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "good", "SAGEMAKER_TRITON_ADDITIONAL_ARGS": flags}
    with Server(tmp_path, **settings) as server:
        server.wait_until_ready()
        assert server.request("POST", "/invocations", ASK).json["outputs"][0]["data"] == [5.0]
        reasons = {each["modelName"]: each["reason"] for each in server.request("GET", "/models").json["unavailable"]}
        for name, (_, _, words) in BAD.items():
            assert words.format(folder=tmp_path / name) in reasons[name]
            assert "\n" not in reasons[name]
            (line,) = lines_about(server, f"serve: {name} is not served")
            assert line.endswith(words.format(folder=tmp_path / name))


@pytest.mark.parametrize("name", ["cut", "raises", "type"])
def test_nothing_is_served_without_the_model_that_is_asked_for(tmp_path: Path, name: str) -> None:
    module, configuration, words = BAD[name]
    write_torchscript(tmp_path / "bad", module, configuration)
    write_torchscript(tmp_path / "good", Same(), FLOAT)
    ended = run_serve(tmp_path, SAGEMAKER_TRITON_DEFAULT_MODEL_NAME="bad")
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if "is not served" in line]
    assert words.format(folder=tmp_path / "bad").partition(": ")[0] in line
    assert "no request can be answered without bad" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_model_that_never_ends_is_refused_and_the_others_answer(endpoint: Endpoint, endless: Future[Answer]) -> None:
    assert endpoint.answers()
    answer = endless.result(350)
    assert answer.status == 400
    assert answer.json["error"].endswith(LOOPS.format(folder=endpoint.root / "loops" / "model"))
    assert len(lines_about(endpoint.server, "loops is not loaded")) == 1
    assert endpoint.answers()
    assert endpoint.server.stop() == 0
