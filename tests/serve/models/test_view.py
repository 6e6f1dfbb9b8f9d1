"""The folder that Triton sees: which files are its own, and which are links into the repository."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ncf.export.export import export
from ncf.training.run_directory import Run
from serve.models.repository import Release, weights_stamp
from serve.models.view import View
from serve.triton.model_config import read_config

MAPPED = ["items.counts", "items.ids", "recommender.json", "users.ids"]


@pytest.fixture
def view(tmp_path: Path, tiny_run: Run) -> View:
    export(tiny_run, tmp_path / "repository", "a")
    (tmp_path / "view").mkdir()
    return View(tmp_path / "repository", tmp_path / "view")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in MAPPED}


def test_a_version_has_copies_of_what_workers_map_and_links_to_weights(view: View) -> None:
    source, shown = view.repository / "a" / "1", view.folder / "a" / "1"
    before = contents(source)
    view.place(Release.read(view.repository, "a", 1))
    assert sorted(path.name for path in shown.iterdir()) == sorted([*MAPPED, "model.pt"])
    assert (shown / "model.pt").resolve() == source / "model.pt"
    for name in MAPPED:
        os.truncate(source / name, 0)
    assert contents(shown) == before


def test_a_version_is_copied_again_when_its_files_are_others(view: View) -> None:
    view.place(Release.read(view.repository, "a", 1))
    ids = view.folder / "a" / "1" / "users.ids"
    copied = ids.stat().st_ino
    view.place(Release.read(view.repository, "a", 1))
    assert ids.stat().st_ino == copied
    (view.repository / "a" / "1" / "users.ids").write_bytes(b"others")
    view.place(Release.read(view.repository, "a", 1))
    assert ids.read_bytes() == b"others"


def test_files_that_were_written_to_since_the_release_was_read_are_refused(view: View) -> None:
    release = Release.read(view.repository, "a", 1)
    (view.repository / "a" / "1" / "users.ids").write_bytes(b"others")
    with pytest.raises(ValueError, match="were written to while they were copied"):
        view.place(release)
    view.unlink(release)
    assert not any(view.versions(part) for part in release.parts)
    assert (view.repository / "a" / "1" / "users.ids").read_bytes() == b"others"


def test_a_version_that_is_held_outlives_its_folder_and_another_is_shown_no_longer(view: View) -> None:
    release = Release.read(view.repository, "a", 1)
    view.keep(release)
    for part in release.parts:
        before = (view.folder / part / "1" / "model.pt").read_bytes()
        shutil.rmtree(view.repository / part / "1")
        view.mend(part)
        assert (view.folder / part / "1" / "model.pt").read_bytes() == before
    assert weights_stamp(view.folder, release.parts, 1) == release.weights
    opened = len([*Path("/proc/self/fd").iterdir()])
    view.unlink(release)
    assert len([*Path("/proc/self/fd").iterdir()]) == opened - len(release.parts)
    for part in release.parts:
        (view.folder / part / "1").symlink_to(view.repository / part / "1")
        view.mend(part)
        assert view.versions(part) == []


def test_without_room_for_copies_a_version_is_linked_and_the_log_says_so(
    view: View, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serve.models.view.shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    view.place(Release.read(view.repository, "a", 1))
    assert (view.folder / "a" / "1").resolve() == view.repository / "a" / "1"
    assert "is served without copies of its ids" in caplog.text


def test_a_model_that_becomes_a_recommender_loses_no_file(view: View) -> None:
    """Its folder is a link into the repository until then."""
    release = Release.read(view.repository, "a", 1)
    view.link("a")
    (view.repository / "a" / "1" / "users.ids").write_bytes(b"others")
    view.unlink(release)
    with pytest.raises(ValueError, match="were written to"):
        view.place(release)
    assert sorted(path.name for path in (view.repository / "a" / "1").iterdir()) == sorted([*MAPPED, "model.pt"])


def test_a_part_that_leaves_the_number_of_its_instances_open_gets_those_of_this_machine(view: View) -> None:
    replace(view, instances=3).place(Release.read(view.repository, "a", 1))
    shown = [read_config((view.folder / part / "config.pbtxt").read_text()) for part in ("a", "a_query")]
    assert [group.count for config in shown for group in config.instance_group] == [1, 3]
