"""Versions that go live one after the other, against a Triton of our own that loads what the view shows."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ncf.export.export import export
from ncf.export.repository import rollback
from ncf.training.run_directory import Run
from serve.errors import BadRequest
from serve.models.rollout import Rollout
from serve.models.served import Served
from serve.models.view import View
from serve.triton.admin import ModelState, TritonAdmin
from serve.worker.target_model import target_model


class FakeTriton(TritonAdmin):
    """Every version in a model's folder is ready after a load, but for those that fail."""

    def __init__(self, view: Path) -> None:
        self.view = view
        self.loaded: dict[str, set[str]] = {}
        self.fails: set[str] = set()

    def load(self, name: str) -> None:
        self.loaded[name] = {path.name for path in (self.view / name).iterdir() if path.name.isdecimal()}

    def unload(self, name: str) -> None:
        self.loaded.pop(name, None)

    def index(self) -> list[ModelState]:
        return [
            ModelState(name, version, "UNAVAILABLE" if version in self.fails else "READY", "")
            for name, found in self.loaded.items()
            for version in found
        ]


class Shelf:
    """A repository, and a rollout of what is exported into it."""

    def __init__(self, path: Path, run: Run) -> None:
        self.run, self.repository = run, path / "repository"
        self.view = View(self.repository, path / "view")
        self.view.folder.mkdir()
        self.triton = FakeTriton(self.view.folder)
        self.rollout = Rollout(self.view, path / "served.json")

    def export(self, name: str, with_topk: bool | None = None) -> None:
        export(self.run, self.repository, name, with_topk=with_topk)

    def start(self, *models: str) -> None:
        """Begin to serve all that is there, or these models."""
        self.rollout.lay_out(models or tuple(path.name for path in sorted(self.repository.iterdir())))
        for name in self.rollout.to_load():
            self.triton.load(name)
        assert self.rollout.settle(self.triton) == []

    def look_twice(self) -> None:
        """A version is loaded at the second look that finds it unchanged."""
        self.rollout.look(self.triton)
        self.rollout.look(self.triton)


@pytest.fixture
def shelf(tmp_path: Path, tiny_run: Run) -> Shelf:
    shelf = Shelf(tmp_path, tiny_run)
    shelf.export("a")
    return shelf


def test_a_replaced_version_leaves_whatever_number_another_recommender_gets(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.models.rollout.RETIRE_SECONDS", 0.0)
    shelf.start()
    shelf.export("a")
    shelf.export("b")  # its version 1 goes live just after version 1 of the other is replaced
    shelf.look_twice()
    assert shelf.rollout.served.recommenders == {"a": 2, "b": 1}
    assert shelf.triton.loaded == {
        part: {version} for name, version in (("a", "2"), ("b", "1")) for part in (name, f"{name}_query")
    }


def test_a_version_has_the_models_that_its_file_names(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From three models (each export before had `topk`) to two, back by a rollback, and to three again."""
    monkeypatch.setattr("serve.models.rollout.RETIRE_SECONDS", 0.0)
    caplog.set_level("INFO", "serve")
    shutil.rmtree(shelf.repository)
    shelf.export("a", with_topk=True)
    shelf.start()
    three, two = ("a", "a_query", "a_topk"), ("a", "a_query")

    def live(version: int, parts: tuple[str, ...]) -> None:
        served = Served.read(shelf.rollout.served_file)
        assert served.recommenders == {"a": version}
        assert served.models == parts
        assert served.versions == dict.fromkeys(parts, version)
        assert shelf.triton.loaded == {part: {str(version)} for part in parts}
        assert sorted(shelf.rollout.to_load()) == sorted(parts)

    live(1, three)
    shelf.export("a", with_topk=False)
    shelf.look_twice()
    live(2, two)
    assert "a: version 2 is live after" in caplog.text
    assert ", was 1; it has no a_topk\n" in caplog.text
    rollback(shelf.repository, "a")
    shelf.look_twice()
    live(1, three)
    shelf.export("a", with_topk=False)
    shelf.look_twice()
    live(3, two)
    shelf.rollout.pause()
    assert shelf.rollout.settle(shelf.triton) == []  # Triton was started again
    live(3, two)
    shelf.export("a", with_topk=True)
    shelf.look_twice()
    live(4, three)
    (shelf.repository / "a_topk" / "4" / "model.pt").touch()  # it is loaded anew at the next change
    shelf.export("b")
    shelf.look_twice()
    assert shelf.rollout.served.recommenders == {"a": 4, "b": 1}


def test_somebodys_own_model_beside_a_recommender_stays_theirs(shelf: Shelf) -> None:
    (shelf.repository / "a_topk" / "7").mkdir(parents=True)
    shelf.start()
    assert shelf.rollout.served.models == ("a", "a_query", "a_topk")
    assert shelf.rollout.served.versions == {"a": 1, "a_query": 1}
    shelf.export("a")
    rollback(shelf.repository, "a", 1)
    shelf.look_twice()
    assert shelf.triton.loaded["a_topk"] == {"7"}


def test_a_second_recommender_does_not_take_requests_that_name_no_model(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "serve")
    shelf.start()
    shelf.export("b")
    shelf.look_twice()
    assert shelf.rollout.served.recommenders == {"a": 1, "b": 1}
    assert target_model(None, {}, None, shelf.rollout.served) == "a"
    assert caplog.text.count("requests that name no model still go to a; SAGEMAKER_TRITON_DEFAULT_MODEL_NAME") == 1


def test_of_two_recommenders_at_the_start_none_is_the_default(shelf: Shelf) -> None:
    shelf.export("b")
    shelf.start()
    with pytest.raises(BadRequest, match="several models are served"):
        target_model(None, {}, None, shelf.rollout.served)


def test_a_version_that_comes_back_before_its_time_stays_loaded(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.models.rollout.RETIRE_SECONDS", 0.3)
    shelf.export("a")
    shelf.start()
    withdrawn = shelf.repository / "a" / ".withdrawn-2"
    (shelf.repository / "a" / "2").rename(withdrawn)
    shelf.look_twice()
    assert shelf.rollout.served.recommenders == {"a": 1}
    withdrawn.rename(shelf.repository / "a" / "2")
    shelf.look_twice()
    assert shelf.rollout.served.recommenders == {"a": 2}
    deadline = time.monotonic() + 20
    while shelf.triton.loaded["a"] != {"2"}:  # the time of version 2 would have been over before that of version 1
        assert time.monotonic() < deadline, shelf.triton.loaded
        shelf.rollout.look(shelf.triton)
        time.sleep(0.02)


def test_changed_weights_are_not_used_with_the_old_ids(shelf: Shelf) -> None:
    """To load another version, Triton looks at all versions' files, and loads those again that were changed."""
    shelf.start()
    first = shelf.rollout.live["a"]
    (shelf.repository / "a_query" / "1" / "model.pt").touch()
    shelf.look_twice()
    assert shelf.rollout.live["a"] == first  # Triton has not been asked to look
    shelf.export("a")
    (shelf.repository / "a_query" / "2" / "model.pt").write_bytes(b"")
    shelf.triton.fails = {"2"}
    shelf.look_twice()
    assert shelf.rollout.served.recommenders == {"a": None}
    shelf.look_twice()
    assert shelf.rollout.served.recommenders == {"a": 1}
    assert shelf.rollout.live["a"] != first


def test_a_live_version_that_was_deleted_and_exported_again_comes_back(shelf: Shelf) -> None:
    """When another version is loaded, Triton unloads the deleted one."""
    shelf.start()
    for part in ("a", "a_query"):
        shutil.rmtree(shelf.repository / part / "1")
    shelf.look_twice()
    assert shelf.rollout.served.recommenders == {"a": 1}  # it is still loaded
    export(shelf.run, shelf.repository, "a", version=1)
    export(shelf.run, shelf.repository, "a", version=2)
    shelf.triton.fails = {"2"}
    shelf.look_twice()
    shelf.look_twice()
    assert shelf.rollout.served.recommenders == {"a": 1}
    assert shelf.triton.loaded["a"] == {"1"}


def test_a_restart_of_triton_keeps_the_ids_unless_the_weights_are_others(shelf: Shelf) -> None:
    shelf.start()
    source, shown = shelf.repository / "a" / "1", shelf.view.folder / "a" / "1"
    stamp, ids = shelf.rollout.served.stamps["a"], (shown / "users.ids").read_bytes()
    os.truncate(source / "users.ids", 0)
    shelf.rollout.look(shelf.triton)
    shelf.rollout.pause()
    assert shelf.rollout.settle(shelf.triton) == []
    assert shelf.rollout.served.stamps["a"] == stamp
    assert (shown / "users.ids").read_bytes() == ids

    (source / "users.ids").write_bytes(ids)  # another content in general, which belongs to these weights
    (shelf.repository / "a_query" / "1" / "model.pt").touch()
    shelf.rollout.pause()
    assert shelf.rollout.settle(shelf.triton) == []
    assert shelf.rollout.served.stamps["a"] != stamp
    assert shelf.rollout.served.recommenders == {"a": 1}
