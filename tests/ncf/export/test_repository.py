"""Versions in a repository: exports at the same time, killed ones, files of the user's, and rollback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ncf.errors import InputError
from ncf.export.export import export
from ncf.export.repository import part_names, rollback
from ncf.training.run_directory import Run


def test_versions_count_up_and_a_tuned_config_stays(food_run: Run, tmp_path: Path) -> None:
    first = export(food_run, tmp_path, "m")
    config = first.score / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 16384", "max_batch_size: 777"))
    second = export(food_run, tmp_path, "m")
    assert (first.version, second.version) == (1, 2)
    assert "max_batch_size: 777" in config.read_text()
    assert sorted(path.name for path in second.query.iterdir()) == ["1", "2", "config.pbtxt", "warmup"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m_query"]


def test_a_new_config_comes_with_the_warmup_that_it_names(food_run: Run, tmp_path: Path) -> None:
    """Somebody deleted config.pbtxt to get the default settings again; the folder of an older export is still there."""
    query = export(food_run, tmp_path, "m").query
    (query / "config.pbtxt").unlink()
    (query / "warmup" / "lone_user").unlink()
    (query / "warmup" / "item").write_bytes(b"their own")
    export(food_run, tmp_path, "m")
    assert (query / "warmup" / "lone_user").stat().st_size == 16
    assert (query / "warmup" / "item").read_bytes() == b"their own"
    assert "lone_user" in (query / "config.pbtxt").read_text()


@pytest.mark.core
def test_a_new_version_has_the_models_that_the_newest_has_unless_told_otherwise(food_run: Run, tmp_path: Path) -> None:
    def models(version: int) -> list[str]:
        described = json.loads((tmp_path / "m" / str(version) / "recommender.json").read_text())
        named = [described[key] for key in ("topk_model", "query_model") if key in described]
        assert [part for part in part_names("m")[1:] if (tmp_path / part / str(version)).exists()] == named
        return named

    for number, asked in enumerate((None, True, None, False, None), 1):
        exported = export(food_run, tmp_path, "m", with_topk=asked)
        assert (exported.version, exported.topk is not None) == (number, "m_topk" in models(number))
    assert [models(number) for number in range(1, 6)] == [
        ["m_query"], ["m_topk", "m_query"], ["m_topk", "m_query"], ["m_query"], ["m_query"],
    ]  # fmt: skip
    assert rollback(tmp_path, "m", 3) == (3, [4, 5])
    assert export(food_run, tmp_path, "m").version == 6
    assert models(6) == ["m_topk", "m_query"]
    assert rollback(tmp_path, "m", 1) == (1, [2, 3, 6])
    assert {path.name for path in (tmp_path / "m_topk").iterdir()} == {
        ".withdrawn-2", ".withdrawn-3", ".withdrawn-6", "config.pbtxt",
    }  # fmt: skip


def test_a_version_without_one_of_its_models_is_not_whole(food_run: Run, tmp_path: Path) -> None:
    for with_topk in (False, True, False):
        export(food_run, tmp_path, "m", with_topk=with_topk)
    shutil.rmtree(tmp_path / "m_topk" / "2")
    with pytest.raises(InputError, match=r"m has no whole version 2 in .*; there is 1, 3"):
        rollback(tmp_path, "m", 2)
    assert rollback(tmp_path, "m") == (1, [2, 3])


def test_a_model_of_the_users_own_is_never_touched(food_run: Run, tmp_path: Path) -> None:
    """Somebody's own model happens to have the name of the second half."""
    folder = tmp_path / "m_topk" / "1"
    folder.mkdir(parents=True)
    (folder / "model.pt").write_text("precious")
    (tmp_path / "m_topk" / "config.pbtxt").write_text('platform: "pytorch_libtorch"')
    with pytest.raises(InputError, match="other inputs or outputs"):
        export(food_run, tmp_path, "m", with_topk=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m_topk"]
    for _ in range(2):
        export(food_run, tmp_path, "m")
    assert rollback(tmp_path, "m", 2) == (2, [3])  # their version 1 is a number that is taken
    assert [path.name for path in sorted((tmp_path / "m_topk").rglob("*"))] == ["1", "model.pt", "config.pbtxt"]
    assert (folder / "model.pt").read_text() == "precious"


def test_a_failed_export_frees_the_lock(food_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **more: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tempfile.mkdtemp", full)
        with pytest.raises(InputError, match="No space left on device"):
            export(food_run, tmp_path, "m")
    assert export(food_run, tmp_path, "m").version == 1


def test_exports_at_the_same_time_get_a_version_each(food_run: Run, tmp_path: Path) -> None:
    script = f"""
        from pathlib import Path
        from ncf.training.run_directory import load_run
        from ncf.export.export import export
        export(load_run(Path({str(food_run.path)!r})), Path({str(tmp_path)!r}), "m")
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "2", "3", "config.pbtxt"]
    assert sorted(path.name for path in (tmp_path / "m_query").iterdir()) == ["1", "2", "3", "config.pbtxt", "warmup"]


def test_a_killed_export_leaves_no_half_model(food_run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Killed while it writes; the next export names what it left, leaves it alone and succeeds."""
    script = f"""
        import os, signal
        from pathlib import Path
        from ncf.export import export
        from ncf.training.run_directory import load_run
        export.write_id_file = lambda path, index: os.kill(os.getpid(), signal.SIGKILL)
        export.export(load_run(Path({str(food_run.path)!r})), Path({str(tmp_path)!r}), "m")
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=os.environ, check=False)
    assert ended.returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".export-")
    before = sorted((tmp_path / left[0]).rglob("*"))
    export(food_run, tmp_path, "m")
    assert f"{left[0]} is left over from an export that was killed" in caplog.text
    assert sorted((tmp_path / left[0]).rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [*left, "m", "m_query"]


@pytest.mark.core
def test_rollback_withdraws_what_is_newer_and_deletes_nothing(food_run: Run, tmp_path: Path) -> None:
    for _ in range(3):
        export(food_run, tmp_path, "m")
    assert rollback(tmp_path, "m") == (2, [3])
    assert rollback(tmp_path, "m", 1) == (1, [2])
    for part in ("m", "m_query"):
        assert {".withdrawn-2", ".withdrawn-3", "1"} <= {path.name for path in (tmp_path / part).iterdir()}
    with pytest.raises(InputError, match=r"m has version 1 only in .*; there is nothing to go back to"):
        rollback(tmp_path, "m")
    assert export(food_run, tmp_path, "m").version == 4  # a withdrawn number is not used again


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("nobody", None, "has no version of a recommender 'nobody'"),
        ("m", 7, "m has no whole version 7 in .*; there is 1, 2"),
        ("m", 2, "version 2 is the newest of m already"),
    ],
)
def test_a_rollback_that_cannot_be(food_run: Run, tmp_path: Path, name: str, version: int | None, message: str) -> None:
    export(food_run, tmp_path, "m")
    export(food_run, tmp_path, "m")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        rollback(tmp_path, name, version)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_configuration_that_is_a_link_to_nowhere_is_not_replaced(food_run: Run, tmp_path: Path) -> None:
    """Its target may be on a volume that is not mounted now."""
    export(food_run, tmp_path, "m")
    config = tmp_path / "m" / "config.pbtxt"
    config.unlink()
    config.symlink_to(tmp_path / "not-mounted" / "config.pbtxt")
    with pytest.raises(InputError, match=r"config.pbtxt cannot be read: No such file or directory"):
        export(food_run, tmp_path, "m")
    assert config.is_symlink()
    assert [path.name for path in (tmp_path / "m").iterdir() if path.name.isdigit()] == ["1"]
