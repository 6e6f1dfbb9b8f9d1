from __future__ import annotations

import os
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from serve.errors import StartError
from serve.supervisor import scratch as room

MIB = 2**20
Usage = namedtuple("Usage", "total used free")


def test_what_is_enough_for_triton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(room, "TEMPORARY", tmp_path)
    room.check_room(3, MIB, 3 * MIB)
    assert list(tmp_path.iterdir()) == []


def test_too_little_shared_memory_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHARED_MEMORY", tmp_path)
    with pytest.raises(StartError) as refused:
        room.check_room(3, MIB, 3 * MIB - 1)
    assert str(refused.value) == (
        f"{tmp_path} has 3.0 MB free, and the models here need at least 3 MB of it (Triton's Python backend runs 3 "
        "instances): start the container with --shm-size=64m or more"
    )
    with pytest.raises(StartError, match=r"need at least 160 MB .* --shm-size=320m or more"):
        room.check_room(10, 16 * MIB, 64 * MIB)
    monkeypatch.setattr(room, "SHARED_MEMORY", tmp_path / "none")
    with pytest.raises(StartError, match=r"there is no .*/none, and the models here need"):
        room.check_room(1, MIB, room.free_shared_memory())
    room.check_room(0, MIB, 0)  # nothing runs in the Python backend, or nobody knows


@pytest.mark.parametrize("name", ["SHARED_MEMORY", "TEMPORARY"])
def test_triton_must_be_able_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(room, name, tmp_path / "file")
    with pytest.raises(
        StartError, match=r"cannot write into .*/file, as Triton's Python backend must: Not a directory"
    ):
        room.check_room(1, MIB, MIB)


def test_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "with space"))
    monkeypatch.setattr(room, "TEMPORARY", tmp_path)
    assert room.scratch_folder().parent == tmp_path  # and not in a path that Triton could not take
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(
        StartError, match=r"there is no temporary folder to write into: No such file .*--tmpfs /tmp:rw,exec"
    ):
        room.scratch_folder()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: Usage(MIB, MIB - 1, 1))
    before = set(tmp_path.iterdir())
    with pytest.raises(StartError, match=r"the temporary folder .* is full; mount one"):
        room.scratch_folder()
    assert set(tmp_path.iterdir()) == before


def test_regions_of_a_killed_triton_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SHARED_MEMORY", tmp_path)
    for name in ("serve_a_1", "serve_b_1"):
        (tmp_path / name).touch()
    room.clear_shared_memory("serve_a_")
    assert [path.name for path in tmp_path.iterdir()] == ["serve_b_1"]


def test_what_a_killed_predecessor_left_is_removed_and_what_a_living_one_has_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SHARED_MEMORY", tmp_path)
    left, lock = room.own_shared_memory()
    assert lock is not None
    lock.close()  # as at the death of its process
    lives, living = room.own_shared_memory()
    assert living is not None
    for prefix in (left, lives):
        (tmp_path / f"{prefix}region").touch()
    (tmp_path / f"serve-{left[6:-1]}.lock").touch()
    others = {tmp_path / name for name in ("serve-foo.lock", "serve-*.lock", "serve_foo_region")}
    for path in others:
        path.touch()
    os.mkfifo(tmp_path / "serve-00000000.lock")  # would be waited for, if it was opened
    new, newest = room.own_shared_memory()
    assert newest is not None
    names = {path.name for path in {*tmp_path.iterdir()} - others}
    locks = {room.lock_of(prefix).name for prefix in (lives, new)}
    assert names == {f"{lives}region", "serve-00000000.lock", *locks}
    assert all(path.exists() for path in others)
    living.close()
    newest.close()
