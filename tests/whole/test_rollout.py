"""New versions, broken ones and withdrawn ones, under load, on the real servers."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from ncf.export.export import export
from ncf.export.repository import rollback
from ncf.training.config import TrainConfig
from ncf.training.run import train_run
from ncf.training.run_directory import Run, load_run
from tests.support.eventually import eventually
from tests.support.serving import Server, children_of
from tests.whole.test_lifecycle import scratch

pytestmark = pytest.mark.e2e

NAME = "shop"
ENOUGH = 500  # answers of a version, before the next change


def train(folder: Path, users: range, items: range) -> Run:
    """Users and items of a range, each user with five items: another range gives every id another index."""
    rows = [(f"u{user}", f"i{items[(user * 7 + step * step) % len(items)]}") for user in users for step in range(5)]
    folder.mkdir(parents=True)
    pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").write_csv(folder / "data.csv")
    config = TrainConfig(epochs=2, num_factors=8, seed=len(items))
    train_run(folder / "data.csv", folder / "run", config, torch.device("cpu"))
    return load_run(folder / "run")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("first") / "x", range(100, 160), range(500, 540))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("second") / "x", range(90, 150), range(480, 530))


ASKS: list[Any] = [
    {"user_id": "u120", "k": 5},
    {"user_id": "u101", "k": 3, "exclude": ["i505"], "exclude_seen": False},
    {"pairs": [{"user_id": f"u{100 + n}", "item_id": f"i{500 + n}"} for n in range(20)]},
    {"user_id": "u130", "candidates": [f"i{500 + n}" for n in range(10)]},
    {"history": ["i501", "i502"], "k": 4},
    {"item_id": "i510", "k": 4},
    {
        "inputs": [
            {"name": "user_index", "datatype": "INT64", "shape": [1, 1], "data": [7]},
            {"name": "item_index", "datatype": "INT64", "shape": [1, 1], "data": [7]},
        ]
    },
    {"requests": [{"user_id": "u120"}, {"item_id": "i510"}, {"pairs": [{"user_id": "u120", "item_id": "i510"}]}]},
]


def rounded(value: Any) -> Any:
    """Without the request's id; scores to what float32 sums in another order agree on."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items() if key != "request_id"}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


def versions_in(answer: Any) -> set[str]:
    parts = answer.get("responses", [answer])
    return {part["model_version"] for part in parts}


class Load:
    """Clients that ask without a pause and keep every answer that is not exactly one version's."""

    def __init__(self, server: Server, expected: dict[str, list[Any]]) -> None:
        self.server, self.expected = server, expected
        self.stopped = threading.Event()
        self.wrong: list[Any] = []
        self.asked: dict[str, int] = {}
        self.threads = [threading.Thread(target=self.ask, args=(offset,)) for offset in range(8)]
        self.threads.append(threading.Thread(target=self.ping))

    def ask(self, offset: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)) as connection:
            self.ask_over(connection, offset)

    def ask_over(self, connection: http.client.HTTPConnection, offset: int) -> None:
        for number in itertools.count(offset):
            if self.stopped.is_set():
                return
            ask = number % len(ASKS)
            try:
                connection.request("POST", "/invocations", json.dumps(ASKS[ask]))
                response = connection.getresponse()
                status, body = response.status, response.read()
                answer = json.loads(body)
                version = versions_in(answer) if status == 200 else set()
            except (OSError, http.client.HTTPException, KeyError) as error:
                self.wrong.append(repr(error))
                return
            if len(version) != 1 or rounded(answer) != self.expected[min(version)][ask]:
                self.wrong.append((status, body))
            else:
                self.asked[min(version)] = self.asked.get(min(version), 0) + 1

    def go_on(self, version: str) -> None:
        """Until the clients have got `ENOUGH` more answers of a version."""
        before = self.asked.get(version, 0)
        eventually(lambda: self.wrong or self.asked.get(version, 0) >= before + ENOUGH)
        assert self.wrong == []

    def ping(self) -> None:
        while not self.stopped.wait(0.2):
            if (status := self.server.ping()) != 200:
                self.wrong.append(("ping", status))

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive()


def answers(server: Server) -> list[Any]:
    return [rounded(server.invoke(ask).json) for ask in ASKS]


def wait_for_log(server: Server, text: str, seconds: float = 120, *, times: int = 1) -> None:
    eventually(lambda: server.log.read_text().count(text) >= times, seconds, server.log.read_text)


def loaded(server: Server, name: str) -> list[str]:
    """The versions of a model that Triton has loaded."""
    models = server.request("GET", "/models").json["models"]
    return sorted(model["modelVersion"] for model in models if model["modelName"] == name)


def version_of(server: Server) -> str:
    return str(server.invoke(ASKS[0]).json["model_version"])


def wait_for_version(server: Server, version: str, seconds: float = 120) -> None:
    # A worker that found its files changed refuses until then, and has no version to name.
    eventually(lambda: server.invoke(ASKS[0]).json.get("model_version") == version, seconds, server.log.read_text)


def loaded_versions(server: Server) -> set[str]:
    """The versions that Triton is shown."""
    folder, *_ = scratch(server)
    return {path.name for path in (folder / "models" / NAME).iterdir() if path.name.isdecimal()}


def test_versions_change_under_load_without_a_failed_or_mixed_answer(first: Run, second: Run, tmp_path: Path) -> None:
    repository = tmp_path / "served"
    export(first, repository, NAME)
    export(second, tmp_path / "alone", NAME, version=2)
    with Server(repository, SERVE_WORKERS="2") as server, Server(tmp_path / "alone") as alone:
        alone.wait_until_ready()
        server.wait_until_ready()
        # What a server answers that has only this version.
        expected = {"1": answers(server), "2": answers(alone)}
        assert all(one != other for one, other in zip(expected["1"], expected["2"], strict=True))
        with Load(server, expected) as load:
            load.go_on("1")
            export(second, repository, NAME)
            load.go_on("2")
            export(first, repository, NAME)  # version 3, and broken before anybody could load it whole
            (repository / f"{NAME}_query" / "3" / "model.pt").write_bytes(b"this is no TorchScript")
            wait_for_log(server, f"{NAME}: version 2 stays")
            eventually(lambda: loaded_versions(server) == {"2"})  # version 1 is unloaded
            load.go_on("2")
            rollback(repository, NAME, 1)
            load.go_on("1")
            assert server.ping() == 200
        assert load.wrong == []
        log = server.log.read_text()
        assert f"{NAME}: version 2 is live after" in log
        assert f"{NAME}: version 3 is not served:" in log
        assert f"{NAME}: version 2 stays" in log
        assert f"{NAME}: version 1 is live after" in log
        assert "Traceback" not in log
        assert sorted(path.name for path in (repository / NAME).iterdir()) == [
            ".withdrawn-2",
            ".withdrawn-3",
            "1",
            "config.pbtxt",
        ]


def test_a_start_on_a_broken_newest_version_serves_the_one_before(first: Run, second: Run, tmp_path: Path) -> None:
    export(first, tmp_path, NAME)
    export(second, tmp_path, NAME)
    (tmp_path / f"{NAME}_topk" / "2" / "model.pt").write_bytes(b"this is no TorchScript")
    with Server(tmp_path) as server:
        server.wait_until_ready()
        assert version_of(server) == "1"
        log = server.log.read_text()
        assert f"{NAME}: version 2 is not served: {NAME}_topk" in log
        assert f"{NAME}: version 1 is served instead" in log
        assert [model["modelVersion"] for model in server.request("GET", "/models").json["models"]] == ["1"] * 3


def test_a_new_recommender_and_a_mended_version_go_live(first: Run, second: Run, tmp_path: Path) -> None:
    repository, aside = tmp_path / "served", tmp_path / "aside"
    export(first, repository, NAME)
    with Server(repository) as server:
        server.wait_until_ready()
        export(second, aside, NAME, version=2)
        for name in (NAME, f"{NAME}_topk", f"{NAME}_query"):  # copied by hand, the ids forgotten at first
            shutil.copytree(aside / name / "2", repository / name / "2")
        (repository / NAME / "2" / "users.ids").unlink()
        wait_for_log(server, "version 2 is not served")
        assert version_of(server) == "1"
        shutil.copy(aside / NAME / "2" / "users.ids", repository / NAME / "2" / "users.ids")
        wait_for_version(server, "2")
        export(first, repository, "other")
        eventually(lambda: server.invoke({"model": "other", **ASKS[0]}).status == 200, about=server.log.read_text)
        # A second recommender does not change which model answers requests that name none.
        assert (version_of(server), server.invoke(ASKS[0]).status) == ("2", 200)
        wait_for_log(server, f"requests that name no model still go to {NAME}; SAGEMAKER_TRITON_DEFAULT_MODEL_NAME")
        # Version 1 of the new recommender went live within ten seconds after version 1 of the first was replaced; the
        # replaced one is unloaded all the same.
        eventually(lambda: loaded(server, NAME) == ["2"])
        assert loaded(server, "other") == ["1"]


def test_what_was_broken_at_the_start_and_what_came_later_survive_a_restart_of_triton(
    first: Run, second: Run, tmp_path: Path
) -> None:
    """Version 2's ids are cut, so 1 is served; another recommender lacks a part and is exported again."""
    export(first, tmp_path, NAME)
    export(second, tmp_path, NAME)
    ids = (tmp_path / NAME / "2" / "users.ids").read_bytes()
    (tmp_path / NAME / "2" / "users.ids").write_bytes(ids[:-5])
    export(first, tmp_path, "late")
    (tmp_path / "late_query" / "1" / "model.pt").unlink()
    config = (tmp_path / "late_topk" / "config.pbtxt").read_text()
    with Server(tmp_path) as server:
        server.wait_until_ready()
        ask = {"model": NAME, **ASKS[0]}
        assert server.invoke(ask).json["model_version"] == "1"
        unavailable = {one["modelName"]: one["reason"] for one in server.request("GET", "/models").json["unavailable"]}
        assert "cut short" in unavailable[NAME]
        assert unavailable["late"] == "late_query/1/model.pt is missing"

        export(second, tmp_path, "late")
        wait_for_log(server, "late: version 2 is live")
        late = server.invoke({**ask, "model": "late"}).json
        assert (tmp_path / "late_topk" / "config.pbtxt").read_text() == config  # the repository is only read

        os.kill(children_of(server.process.pid)["tritonserver"], signal.SIGKILL)
        wait_for_log(server, "ready after", times=2)
        assert rounded(server.invoke({**ask, "model": "late"}).json) == rounded(late)
        assert server.invoke(ask).json["model_version"] == "1"
        assert "Traceback" not in server.log.read_text()


def test_a_version_that_kills_triton_does_not_end_the_service(first: Run, second: Run, tmp_path: Path) -> None:
    export(first, tmp_path, NAME)
    with Server(tmp_path) as server:
        server.wait_until_ready()
        export(second, tmp_path, NAME)
        for attempt in (1, 2):
            wait_for_log(server, "loading version 2", times=attempt)
            os.kill(children_of(server.process.pid)["tritonserver"], signal.SIGKILL)
        wait_for_log(server, "version 2 is not served: Triton went away while it was loaded")
        server.wait_until_ready()
        assert version_of(server) == "1"
        assert server.process.poll() is None


def test_files_changed_under_a_live_version_are_not_mixed_in(first: Run, second: Run, tmp_path: Path) -> None:
    export(first, tmp_path, NAME)
    with Server(tmp_path, SERVE_WORKERS="2") as server:
        server.wait_until_ready()
        before = [answers(server) for _ in range(4)]
        for name in (NAME, f"{NAME}_topk", f"{NAME}_query"):
            shutil.rmtree(tmp_path / name)
        export(second, tmp_path, NAME)  # version 1 again
        wait_for_log(server, "the files of version 1 changed; export them as a new version")
        assert all(answers(server) == before[0] for _ in range(4))
        export(first, tmp_path, NAME)
        wait_for_version(server, "2")
        assert [rounded(each) for each in answers(server)] != before[0]  # it names another version
