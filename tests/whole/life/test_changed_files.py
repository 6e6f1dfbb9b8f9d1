"""Files of a live version that are changed in the repository, on the real servers."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from ncf.export.export import export
from ncf.training.run_directory import Run
from tests.support.eventually import eventually
from tests.support.rollout import NAME, rounded, train
from tests.support.serving import Server, children_of

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("run") / "x", range(100, 160), range(500, 540))


def workers_of(server: Server) -> set[int]:
    """The processes of gunicorn's workers."""
    gunicorn = children_of(server.process.pid)["gunicorn"]
    text = Path(f"/proc/{gunicorn}/task/{gunicorn}/children").read_text()
    return {int(pid) for pid in text.split()}


def view_of(server: Server) -> Path:
    """The folder that Triton sees."""
    words = Path(f"/proc/{children_of(server.process.pid)['tritonserver']}/cmdline").read_text().split("\0")
    return next(Path(word.partition("=")[2]) for word in words if word.startswith("--model-repository="))


def test_files_changed_in_place_change_no_answer(run: Run, tmp_path: Path) -> None:
    """Ids that are cut short and files with a new time, then a worker that dies, then Triton: all answer as before.

    A worker that cannot open its recommender all the same says so at /ping.
    """
    export(run, tmp_path, NAME)
    asks = [{"user_id": f"u{user}", "k": 3} for user in range(100, 160)]
    with Server(tmp_path, SERVE_WORKERS="2") as server:
        server.wait_until_ready()

        def same_answers() -> None:
            """Every request in a connection of its own, so that both workers are asked."""
            found = [server.invoke(ask) for ask in asks * 2]
            assert {answer.status for answer in found} == {200}, server.log.read_text()
            assert [rounded(answer.json) for answer in found] == expected * 2
            assert {server.ping() for _ in range(20)} == {200}

        expected = [rounded(server.invoke(ask).json) for ask in asks]
        assert {answer["reason"] for answer in expected} == {"personal"}
        before = workers_of(server)
        for name in ("recommender.json", "users.ids", "items.ids", "items.counts"):
            (tmp_path / NAME / "1" / name).touch()
        for name in ("users.ids", "items.ids", "items.counts"):
            os.truncate(tmp_path / NAME / "1" / name, 0)
        same_answers()
        assert workers_of(server) == before

        os.kill(min(before), signal.SIGKILL)
        eventually(lambda: len(workers_of(server) - before) == 1)
        same_answers()

        ids = view_of(server) / NAME / "1" / "users.ids"
        ids.rename(tmp_path / "aside.ids")
        os.kill(max(workers_of(server) & before), signal.SIGKILL)
        eventually(lambda: not workers_of(server) & before and len(workers_of(server)) == 2)
        eventually(lambda: {server.ping() for _ in range(20)} == {200, 503})
        eventually(lambda: {server.invoke(ask).status for ask in asks} == {200, 503})
        (tmp_path / "aside.ids").rename(ids)
        same_answers()

        os.kill(children_of(server.process.pid)["tritonserver"], signal.SIGKILL)
        eventually(lambda: server.log.read_text().count("ready after") == 2)
        same_answers()


def test_ids_and_weights_belong_together_when_a_new_version_fails_beside_changed_files(
    run: Run, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """To load a new version, Triton looks at the files of the live one, too, and loads them again if they changed."""
    other = train(tmp_path_factory.mktemp("other") / "x", range(90, 150), range(480, 530))
    weights = {
        "inputs": [
            {"name": name, "datatype": "INT64", "shape": [1, 1], "data": [7]} for name in ("user_index", "item_index")
        ]
    }
    export(run, tmp_path, NAME)
    with Server(tmp_path) as server:
        server.wait_until_ready()

        def belongs_to_run() -> tuple[bool, bool]:
            """Whether the ids, and whether the weights, are those of `run`."""
            ids = server.invoke({"user_id": "u155"}).json["reason"] == "personal"  # no user of the other run
            return ids, server.invoke(weights).json["outputs"] == before

        before = server.invoke(weights).json["outputs"]
        assert belongs_to_run() == (True, True)
        for name in (NAME, f"{NAME}_query"):
            shutil.rmtree(tmp_path / name / "1")
        export(other, tmp_path, NAME, version=1)
        eventually(lambda: "the files of version 1 changed" in server.log.read_text())
        assert belongs_to_run() == (True, True)
        export(other, tmp_path / "aside", NAME, version=2)
        (tmp_path / "aside" / f"{NAME}_query" / "2" / "model.pt").write_bytes(b"this is no TorchScript")
        for name in (f"{NAME}_query", NAME):
            shutil.move(tmp_path / "aside" / name / "2", tmp_path / name / "2")
        eventually(lambda: f"{NAME}: version 2 is not served" in server.log.read_text(), about=server.log.read_text)
        eventually(lambda: server.invoke({"user_id": "u95"}).status == 200, about=server.log.read_text)
        assert len(set(belongs_to_run())) == 1  # the old ones if `serve` looked while version 1 was deleted
