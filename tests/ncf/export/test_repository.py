"""Versions in a repository: exports at the same time, killed ones, files of the user's, and rollback."""

from __future__ import annotations

import os
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
    config.write_text(
        config.read_text().replace("max_queue_delay_microseconds: 100", "max_queue_delay_microseconds: 7")
    )
    second = export(food_run, tmp_path, "m")
    assert (first.version, second.version) == (1, 2)
    assert "max_queue_delay_microseconds: 7" in config.read_text()
    assert sorted(path.name for path in second.topk.iterdir()) == ["1", "2", "config.pbtxt"]


def test_a_model_of_the_users_own_is_never_touched(food_run: Run, tmp_path: Path) -> None:
    """Somebody's own model happens to have the name of the second half."""
    folder = tmp_path / "m_topk" / "1"
    folder.mkdir(parents=True)
    (folder / "model.pt").write_text("precious")
    (tmp_path / "m_topk" / "config.pbtxt").write_text('platform: "pytorch_libtorch"')
    with pytest.raises(InputError, match="other inputs or outputs"):
        export(food_run, tmp_path, "m")
    assert (folder / "model.pt").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["m_topk"]


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
    for name in ("m", "m_topk"):
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["1", "2", "3", "config.pbtxt"]
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
    assert sorted(path.name for path in tmp_path.iterdir()) == [*left, "m", "m_query", "m_topk"]


@pytest.mark.core
def test_rollback_withdraws_what_is_newer_and_deletes_nothing(food_run: Run, tmp_path: Path) -> None:
    for _ in range(3):
        export(food_run, tmp_path, "m")
    assert rollback(tmp_path, "m") == (2, [3])
    assert rollback(tmp_path, "m", 1) == (1, [2])
    for part in part_names("m"):
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
