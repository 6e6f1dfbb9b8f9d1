"""New versions, broken ones and withdrawn ones, under load, on the real servers."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from ncf.export.export import export
from ncf.export.repository import rollback
from ncf.training.run_directory import Run
from tests.support.eventually import eventually
from tests.support.rollout import ASKS, NAME, Load, rounded, train
from tests.support.serving import Answer, Server, children_of, scratch

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("first") / "x", range(100, 160), range(500, 540))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("second") / "x", range(90, 150), range(480, 530))


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


def ask_topk(server: Server) -> Answer:
    """What `topk` answers for a user, asked as a model of its own."""
    body = {"inputs": [{"name": "user_index", "shape": [1, 1], "datatype": "INT64", "data": [3]}]}
    return server.invoke(body, {"X-Amzn-SageMaker-Custom-Attributes": f"model={NAME}_topk"})


def test_versions_change_under_load_without_a_failed_or_mixed_answer(first: Run, second: Run, tmp_path: Path) -> None:
    """Version 1 has three models, as every export had before, and the next ones have two."""
    repository = tmp_path / "served"
    repository.symlink_to(tmp_path / "first")
    export(first, tmp_path / "first", NAME, with_topk=True)
    export(second, tmp_path / "alone", NAME, version=2)
    with Server(repository, SERVE_WORKERS="2") as server, Server(tmp_path / "alone") as alone:
        alone.wait_until_ready()
        server.wait_until_ready()
        # What a server answers that has only this version.
        expected = {"1": answers(server), "2": answers(alone)}
        assert all(one != other for one, other in zip(expected["1"], expected["2"], strict=True))
        third = ask_topk(server)
        assert third.status == 200, third.body
        with Load(server, expected) as load:
            load.go_on("1")
            export(second, repository, NAME, with_topk=False)
            load.go_on("2")
            assert ask_topk(server).status == 404
            export(first, repository, NAME)  # version 3, and broken before anybody could load it whole
            (repository / f"{NAME}_query" / "3" / "model.pt").write_bytes(b"this is no TorchScript")
            wait_for_log(server, f"{NAME}: version 2 stays")
            eventually(lambda: loaded_versions(server) == {"2"})  # version 1 is unloaded
            load.go_on("2")
            rollback(repository, NAME, 1)
            load.go_on("1")
            assert ask_topk(server).json["outputs"] == third.json["outputs"]
            assert server.ping() == 200
            listed = sorted(path.name for path in (repository / NAME).iterdir())
            # What a synchronised folder does: the old version's files are gone before the new version is loaded.
            for part in (f"{NAME}_query", NAME):
                shutil.copytree(tmp_path / "alone" / part / "2", repository / part / "2")
                shutil.rmtree(repository / part / "1")
            load.go_on("2")
            export(first, tmp_path / "other", NAME, version=1)
            (tmp_path / "flipped").symlink_to(tmp_path / "other")
            (tmp_path / "flipped").replace(repository)
            load.go_on("1")
        assert load.wrong == []
        log = server.log.read_text()
        assert f"{NAME}: version 2 is live after" in log
        assert f"{NAME}: version 3 is not served:" in log
        assert f"{NAME}: version 2 stays" in log
        assert f"{NAME}: version 1 is live after" in log
        assert "Traceback" not in log
        assert listed == [".withdrawn-2", ".withdrawn-3", "1", "config.pbtxt"]


def test_a_start_on_a_broken_newest_version_serves_the_one_before(first: Run, second: Run, tmp_path: Path) -> None:
    export(first, tmp_path, NAME)
    export(second, tmp_path, NAME)
    (tmp_path / f"{NAME}_query" / "2" / "model.pt").write_bytes(b"this is no TorchScript")
    with Server(tmp_path) as server:
        server.wait_until_ready()
        assert version_of(server) == "1"
        log = server.log.read_text()
        assert f"{NAME}: version 2 is not served: {NAME}_query" in log
        assert f"{NAME}: version 1 is served instead" in log
        assert [model["modelVersion"] for model in server.request("GET", "/models").json["models"]] == ["1"] * 2


def test_a_new_recommender_and_a_mended_version_go_live(first: Run, second: Run, tmp_path: Path) -> None:
    repository, aside = tmp_path / "served", tmp_path / "aside"
    export(first, repository, NAME)
    with Server(repository) as server:
        server.wait_until_ready()
        export(second, aside, NAME, version=2)
        for name in (NAME, f"{NAME}_query"):  # copied by hand, the ids forgotten at first
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
    config = (tmp_path / "late_query" / "config.pbtxt").read_text()
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
        assert (tmp_path / "late_query" / "config.pbtxt").read_text() == config  # the repository is only read

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
        for name in (NAME, f"{NAME}_query"):
            shutil.rmtree(tmp_path / name)
        export(second, tmp_path, NAME)  # version 1 again
        wait_for_log(server, "the files of version 1 changed; export them as a new version")
        assert all(answers(server) == before[0] for _ in range(4))
        export(first, tmp_path, NAME)
        wait_for_version(server, "2")
        assert [rounded(each) for each in answers(server)] != before[0]  # it names another version
