"""A multi-model endpoint as SageMaker uses one, with the real servers: two workers, and models that wait on demand."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ncf.export.export import export
from ncf.training.run_directory import Run
from tests.support.eventually import eventually
from tests.support.serving import Answer, Server, children_of
from tests.support.small_models import DOUBLE, one, write_model

pytestmark = pytest.mark.e2e

TARGET = "X-Amzn-SageMaker-Target-Model"
BINARY = "application/vnd.sagemaker-triton.binary+json"
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


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    new = Endpoint(tmp_path_factory.mktemp("endpoint"))
    with new.server:
        new.server.wait_until_ready()
        yield new
        assert new.server.stop() == 0
        assert "Traceback" not in new.server.log.read_text()


def test_c024_c064_it_starts_without_a_model(endpoint: Endpoint) -> None:
    with endpoint.connections() as workers:
        for (worker,) in workers:
            for method, path, body in (("GET", "/ping", b""), ("GET", "/models", b'{"models":[]}')):
                answer = ask(worker, method, path)
                assert (answer.status, answer.body) == (200, body)


def test_c065_to_c077_the_life_of_models_of_both_layouts(endpoint: Endpoint) -> None:
    flat, deep = "a22c461ba4f02e19ed1d8114303b6855", "b-1.2_c"  # E10: with a hyphen
    endpoint.archive(flat)
    endpoint.archive(deep, "food")
    urls = {flat: str(endpoint.root / flat), deep: str(endpoint.root / deep / "model")}  # C74
    with endpoint.connections(3) as workers, ThreadPoolExecutor(6) as pool:
        everyone = [connection for worker in workers for connection in worker]
        for name in (flat, deep):  # C67: of three loads by each worker one succeeds
            wanted = endpoint.wanted(name)
            answers = [*pool.map(lambda connection, body=wanted: ask(connection, "POST", "/models", body), everyone)]
            assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409, 409]
            assert [answer.body for answer in answers if answer.status == 200] == [b""]
        for connection, *_ in workers:
            listed = ask(connection, "GET", "/models").json
            assert listed == {"models": [{"modelName": name, "modelUrl": url} for name, url in urls.items()]}
            listed = ask(connection, "GET", f"/models?next_page_token={flat}").json
            assert listed == {"models": [{"modelName": deep, "modelUrl": urls[deep]}]}
            for name, url in urls.items():
                assert ask(connection, "GET", f"/models/{name}").json == {"modelName": name, "modelUrl": url}
                answer = ask(connection, "POST", f"/models/{name}/invoke", one("X", "INT32", 41))
                assert outputs(answer) == [42]
                assert answer.json["model_name"] == name
        (stub,) = endpoint.stubs(flat)
        assert ask(workers[0][0], "DELETE", f"/models/{flat}").status == 200
        assert not Path(f"/proc/{stub}").exists()  # C75: its memory is free
        log = endpoint.server.log.read_text()  # workers load and unload, and what they do is in the one log
        for done in ("loaded from", "unloaded"):
            assert re.search(rf"^serve: {flat}\b.* is {done}", log, re.MULTILINE)
        for connection, *_ in workers:
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/invoke")):
                assert ask(connection, method, f"/models/{flat}{path}", b"{}").status == 404
            assert [each["modelName"] for each in ask(connection, "GET", "/models").json["models"]] == [deep]
        assert ask(workers[1][0], "DELETE", "/models").status == 404
        assert ask(workers[1][0], "POST", "/models", endpoint.wanted(flat)).status == 200
    assert outputs(endpoint.invoke(flat, 1)) == [2]


def test_c076_tensors_in_binary(endpoint: Endpoint) -> None:
    endpoint.archive("binary")
    assert endpoint.load("binary").status == 200
    tensor = {"name": "X", "shape": [1], "datatype": "INT32", "parameters": {"binary_data_size": 4}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    kind = {"Content-Type": f"{BINARY};json-header-size={len(head)}"}
    answer = endpoint.server.request("POST", "/models/binary/invoke", head + struct.pack("<i", 6), kind)
    size = int(answer.headers["content-type"].removeprefix(f"{BINARY};json-header-size="))
    assert struct.unpack("<i", answer.body[size:]) == (7,)


def test_c024_c080c_a_slow_load_and_a_slow_unload_hold_up_nobody(endpoint: Endpoint) -> None:
    slow = endpoint.archive("slow")
    endpoint.archive("quick")
    endpoint.archive("other")
    assert endpoint.load("quick").status == 200
    with endpoint.connections() as workers, ThreadPoolExecutor(2) as pool:

        def nobody_waits() -> None:
            for (worker,) in workers:
                assert ask(worker, "GET", "/ping").status == 200
                listed = {each["modelName"] for each in ask(worker, "GET", "/models").json["models"]}
                assert listed & {"quick", "slow"} == {"quick"}
                assert outputs(ask(worker, "POST", "/models/quick/invoke", one("X", "INT32", 1))) == [2]
                for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/invoke")):
                    assert ask(worker, method, f"/models/slow{path}", b"{}").status == 404

        with held(slow, "loading"):
            load = pool.submit(endpoint.load, "slow")
            begun(slow, "loading")
            nobody_waits()
            assert endpoint.load("other").status == 200
            assert endpoint.delete("other").status == 200
            for (worker,) in workers:
                assert ask(worker, "POST", "/models", endpoint.wanted("slow")).status == 409
            assert not load.done()
        assert load.result().status == 200
        with held(slow, "7"):
            call = pool.submit(endpoint.invoke, "slow", 7)
            begun(slow, "7")
            unload = pool.submit(endpoint.delete, "slow")
            eventually(lambda: "slow" not in endpoint.listed())
            nobody_waits()
            assert not unload.done()
        assert outputs(call.result()) == [8]
        assert unload.result().status == 200


def test_c078_ensembles_whose_parts_share_names(endpoint: Endpoint) -> None:
    for name, factor in (("twice", 2), ("thrice", 3)):
        folder = endpoint.root / name / "model"
        write_model("chain", folder / "chain")
        write_model("double", folder / "double")
        (folder / "double" / "1" / "model.py").write_text(DOUBLE.replace("2 *", f"{factor} *"))
    with ThreadPoolExecutor(2) as pool:
        assert [each.status for each in pool.map(endpoint.load, ("twice", "thrice"))] == [200, 200]
    body = one("IN", "INT32", 5, 6, shape=[1, 2])
    assert outputs(endpoint.call("POST", "/models/twice/invoke", body)) == [10, 12]
    assert endpoint.delete("twice").status == 200
    assert endpoint.stubs("twice", "twice@double") == set()
    assert outputs(endpoint.call("POST", "/models/thrice/invoke", body)) == [15, 18]
    assert endpoint.call("GET", "/models/thrice@double").status == 404  # what is inside cannot be asked
    assert endpoint.call("POST", "/models/thrice@double/invoke", body).status == 404


def test_c077_a_recommender_answers_ids(endpoint: Endpoint, food_run: Run) -> None:
    export(food_run, endpoint.root / "shop" / "model", "ncf_food_model")
    assert endpoint.load("shop", "ncf_food_model.model.tar.gz").status == 200
    body = json.dumps({"user_id": food_run.users.ids[0], "k": 3}).encode()
    with endpoint.connections() as workers:
        for (worker,) in workers:
            answer = ask(worker, "POST", "/models/shop/invoke", body)
            assert answer.status == 200
            assert {each["item_id"] for each in answer.json["recommendations"]} <= set(food_run.items.ids)
    assert endpoint.delete("shop").status == 200
    assert endpoint.call("POST", "/models/shop/invoke", body).status == 404
