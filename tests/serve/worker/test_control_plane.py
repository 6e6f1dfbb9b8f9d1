"""The paths under /models, in multi-model mode and without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serve.models.served import SERVED_FILE, VIEW_FOLDER, ServedFile
from serve.telemetry.page_socket import PAGE_SOCKET
from serve.worker.control_plane import create_control_plane
from tests.support.front import Worker
from tests.support.multi_model import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@dataclass(frozen=True)
class Answer:
    status_code: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Client:
    """Asks a worker whose control plane administers the house's Triton."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def open(self, path: str, method: str, data: bytes = b"") -> Answer:
        return Answer(*self.worker.ask(method, path, data))

    def get(self, path: str) -> Answer:
        return self.open(path, "GET")

    def post(self, path: str, document: object) -> Answer:
        return self.open(path, "POST", document if isinstance(document, bytes) else json.dumps(document).encode())


@pytest.fixture
def client_of(house: House) -> Iterator[Callable[..., Client]]:
    with ExitStack() as stack:

        def start(**environment: str) -> Client:
            worker = Worker(house.scratch, SERVE_MULTI_MODEL_ROOT=str(house.root), **environment)
            served = ServedFile(house.scratch / SERVED_FILE, house.scratch / VIEW_FOLDER)
            worker.application.flask = create_control_plane(
                worker.application.settings, served, house.triton, house.scratch / PAGE_SOCKET
            )
            return Client(stack.enter_context(worker))

        yield start


def test_c071_to_c073_models_are_listed_in_pages(
    house: House, client_of: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(SAGEMAKER_MULTI_MODEL="true")
    monkeypatch.setattr("serve.worker.control_plane.MODELS_PER_PAGE", 2)
    assert client.get("/models").json == {"models": []}
    for name in ("e", "b", "d", "a", "c"):
        house.archive(name)
        answer = client.post("/models", {"model_name": name, "url": str(house.root / name / "model")})
        assert (answer.status_code, answer.data) == (200, b"")
    pages, query = [], ""
    while True:
        page = client.get(f"/models{query}").json
        pages.append([model["modelName"] for model in page["models"]])
        assert all(set(model) == {"modelName", "modelUrl"} for model in page["models"])
        if "nextPageToken" not in page:
            break
        query = f"?next_page_token={page['nextPageToken']}"
    assert pages == [["a", "b"], ["c", "d"], ["e"]]
    assert client.get("/models?next_page_token=zzz").json == {"models": []}
    assert client.get("/models?next_page_token=b%00%ff").json["models"]
    assert client.get("/models/c").json == {"modelName": "c", "modelUrl": str(house.root / "c" / "model")}
    assert client.get("/models/x").status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is not JSON"), (b"{", "is not JSON"), (b"\xff", "is not JSON"), (b"[" * 9000, "is not JSON"),
        (b"[]", "a list"), (b"null", "null"), (b"1e999", "JSON"), (b"{}", "model_name is missing"),
        (b'{"model_name": "a"}', "url is missing"), (b'{"model_name": 1, "url": ""}', "model_name is 1"),
        (b'{"model_name": "../a", "url": ""}', "model_name is '../a'"),
        (b'{"model_name": "a@b", "url": ""}', "model_name is 'a@b'"),
        (b'{"model_name": "a", "url": {}}', "url is an object"),
        (b'{"model_name": "a", "url": "/etc"}', "url is '/etc'"),
    ],
)  # fmt: skip
def test_c080_a_body_that_cannot_be_used_is_refused(client_of: Callable[..., Client], body: bytes, said: str) -> None:
    answer = client_of(SAGEMAKER_MULTI_MODEL="true").post("/models", body)
    assert answer.status_code == 400
    assert answer.json["code"] == "bad_request"
    assert said in answer.json["error"]


def test_c075_methods_that_paths_do_not_take(client_of: Callable[..., Client]) -> None:
    client = client_of(SAGEMAKER_MULTI_MODEL="true")
    for method, path, status, allowed in (
        ("PUT", "/models", 405, "GET"), ("DELETE", "/models", 404, None), ("POST", "/models/x", 405, "DELETE"),
        ("GET", "/models/x/invoke", 405, "POST"), ("GET", "/modelsfoo", 404, None), ("GET", "/models/", 404, None),
        ("DELETE", "/models/x", 404, None), ("DELETE", "/models/x/y", 404, None),
    ):  # fmt: skip
        answer = client.open(path, method=method)
        assert (method, path, answer.status_code) == (method, path, status)
        assert set(answer.json) == {"error", "code"}
        if allowed:
            assert allowed in answer.headers["allow"]


def test_single_model_mode_says_that_the_other_is_off(house: House, client_of: Callable[..., Client]) -> None:
    house.triton.states = {"m": "READY"}
    client = client_of(SERVE_MODEL_REPOSITORY="/repository")
    assert client.get("/models/m").json == {"modelName": "m", "modelVersion": "1", "modelUrl": "/repository/m"}
    assert client.get("/models/x").status_code == 404
    for method, path in (("POST", "/models"), ("DELETE", "/models"), ("DELETE", "/models/m")):
        answer = client.open(path, method=method)
        assert answer.status_code == 405
        assert "SAGEMAKER_MULTI_MODEL=true" in answer.json["error"]
