"""A multi-model endpoint with two workers, and models that wait on demand."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tests.support.eventually import eventually
from tests.support.serving import Answer, Server, children_of
from tests.support.small_models import one

TARGET = "X-Amzn-SageMaker-Target-Model"
STUB = "triton_python_backend_stub"

# Answers X with X + 1. It waits as long as there is a file `loading.held`, or `<X>.held`, beside it.
HELD = """
import pathlib
import resource
import re
import time

import triton_python_backend_utils as triton

HERE = pathlib.Path(__file__).parent


def wait(what):
    (HERE / f"{what}.begun").touch()
    while (HERE / f"{what}.held").exists():
        time.sleep(0.02)


class TritonPythonModel:
    def initialize(self, args):
        wait("loading")
        if (HERE / "starved").exists():
            resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
            bytearray(2**34)

    def execute(self, requests):
        return [self.answer(triton.get_input_tensor_by_name(request, "X").as_numpy()) for request in requests]

    def answer(self, x):
        wait(int(x[0]))
        if x[0] == 507:
            return triton.InferenceResponse(error=triton.TritonError("CUDA out of memory. Tried to allocate 20 MiB"))
        return triton.InferenceResponse([triton.Tensor("Y", x + 1)])
"""
HELD_CONFIG = """
backend: "python"
input [ { name: "X" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, target: str = ""
) -> Answer:
    connection.request(method, path, body, {TARGET: target} if target else {})
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


class Endpoint:
    """`serve` with two workers, and the folder it loads from."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "models"
        self.root.mkdir()
        root = {"SERVE_MULTI_MODEL_ROOT": str(self.root)}
        self.server = Server(folder, SAGEMAKER_MULTI_MODEL="true", SERVE_WORKERS="2", **root)

    def archive(self, name: str, below: str = "", instances: int = 1) -> Path:
        """Write an archive with a model that waits on demand; -> the folder of its version."""
        version = self.root / name / "model" / below / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(HELD)
        (version.parent / "config.pbtxt").write_text(HELD_CONFIG.replace("count: 1", f"count: {instances}"))
        return version

    def call(self, method: str, path: str, body: bytes | None = None, target: str = "") -> Answer:
        return self.server.request(method, path, body, {TARGET: target} if target else {})

    def load(self, name: str, target: str = "") -> Answer:
        return self.call("POST", "/models", self.wanted(name), target)

    def wanted(self, name: str) -> bytes:
        return json.dumps({"model_name": name, "url": str(self.root / name / "model")}).encode()

    def delete(self, name: str, target: str = "") -> Answer:
        return self.call("DELETE", f"/models/{name}", target=target)

    def invoke(self, name: str, x: int = 1, target: str = "") -> Answer:
        return self.call("POST", f"/models/{name}/invoke", one("X", "INT32", x), target)

    def listed(self) -> dict[str, str]:
        """The URLs of the loaded models, by name."""
        return {model["modelName"]: model["modelUrl"] for model in self.call("GET", "/models").json["models"]}

    @property
    def workers(self) -> list[int]:
        gunicorn = children_of(self.server.process.pid)["gunicorn"]
        return [int(pid) for pid in Path(f"/proc/{gunicorn}/task/{gunicorn}/children").read_text().split()]

    @contextmanager
    def connections(self, each: int = 1) -> Iterator[list[list[http.client.HTTPConnection]]]:
        """Connections to each of the two workers: they are opened while the other worker is stopped."""
        eventually(lambda: len(self.workers) == 2)
        with ExitStack() as stack:
            found = []
            for worker in self.workers:
                (other,) = {*self.workers} - {worker}
                os.kill(other, signal.SIGSTOP)
                try:
                    mine = [http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30) for _ in range(each)]
                    for connection in mine:
                        stack.enter_context(closing(connection))
                        assert ask(connection, "GET", "/ping").status == 200
                finally:
                    os.kill(other, signal.SIGCONT)
                found.append(mine)
            yield found

    def stubs(self, *names: str) -> set[int]:
        """The processes of models in Python: of these models, by default of all."""
        triton, found = children_of(self.server.process.pid)["tritonserver"], set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (folder / "cmdline").read_text().split("\0")
            except (OSError, IndexError):
                continue
            model = Path(words[1]).parent.parent.name if parent == triton and words[0].endswith(STUB) else ""
            if model and (not names or model in names):
                found.add(int(folder.name))
        return found


@contextmanager
def held(version: Path, what: str) -> Iterator[None]:
    """While inside, a model waits in its load or in its calls; `what` says in which."""
    (version / f"{what}.held").touch()
    try:
        yield
    finally:
        (version / f"{what}.held").unlink(missing_ok=True)


def begun(version: Path, what: str) -> None:
    eventually(lambda: (version / f"{what}.begun").exists())


def outputs(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    return answer.json["outputs"][0]["data"]
