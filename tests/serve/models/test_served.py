"""The file that says what is served: one process at a time writes it, every worker reads it."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from serve.models.repository import Release
from serve.models.served import Served, ServedFile, changing

pytestmark = pytest.mark.core


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "served.json"
    Served().write(path)
    return path


def test_what_was_written_is_read(file: Path) -> None:
    served = Served(ready=True, models=("a", "b"), recommenders={"a": None}, parts={"a": ["a", "a@b"]}, starts=3)
    served.write(file)
    assert Served.read(file) == served
    assert served.choices == ("a",)
    assert [path.name for path in file.parent.iterdir()] == ["served.json"]


def test_a_change_is_written_unless_it_fails_or_is_none(file: Path) -> None:
    before = file.stat()
    with changing(file):
        pass
    with suppress(KeyError), changing(file) as served:
        served.ready = True
        raise KeyError
    assert file.stat() == before
    with changing(file) as served:
        served.loading["a"] = "1 2"
    assert Served.read(file).loading == {"a": "1 2"}


def _count(file: Path, times: int) -> None:
    for _ in range(times):
        with changing(file) as served:
            served.starts += 1


def test_changes_by_several_processes_follow_each_other(file: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_count, args=(file, 50)) for _ in range(3)]
    for process in processes:
        process.start()
    _count(file, 50)
    for process in processes:
        process.join(60)
    assert Served.read(file).starts == 200


@pytest.mark.parametrize("recommender", [False, True])
def test_what_is_published_can_be_withdrawn(recommender: bool) -> None:
    names = ("r", "r_topk", "r_query")
    release = Release("r", 2, names, "stamp", "", "") if recommender else None
    served = Served(ready=True, models=("other",), urls={"other": "/other"}, loading={"a": "1 2"})
    parts = ("a", "a@r_topk", "a@r_query") if recommender else ("a",)
    served.publish("a", "/models/a", "t.tar.gz", parts, release, dict.fromkeys(parts, 8) if recommender else {})
    assert served.models == ("other", "a")
    assert (served.urls["a"], served.targets["a"], served.parts["a"]) == ("/models/a", "t.tar.gz", list(parts))
    assert served.loading == {}
    assert served.recommenders == ({"a": 2} if recommender else {})
    assert served.versions == (dict.fromkeys(parts, 2) if recommender else {})
    served.withdraw("a")
    assert asdict(served) == asdict(Served(ready=True, models=("other",), urls={"other": "/other"}))


def test_a_worker_reads_the_file_when_it_is_another(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = ServedFile(file, file.parent)
    first = worker.current()
    assert worker.current() is first
    with changing(file) as served:
        served.ready = True
    assert worker.current().ready
    monkeypatch.setattr(Served, "read", lambda path: pytest.fail("nothing has changed"))
    assert worker.current().ready
