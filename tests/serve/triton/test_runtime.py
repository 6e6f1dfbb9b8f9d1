from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serve.triton import native
from serve.triton import runtime as triton_runtime
from serve.triton.runtime import STUB, RuntimeNotFoundError, find_runtime
from tests.support.native_backend import copy_native

wheel_only = pytest.mark.skipif(triton_runtime.NGC_SERVER.exists(), reason="this machine has Triton's own image")


@pytest.fixture
def laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Backends as an image lays them out."""
    folder = tmp_path / "share" / "backends"
    copy_native(folder)
    monkeypatch.setattr(triton_runtime, "LAID_OUT", folder)
    triton_runtime.main()
    return folder


@wheel_only
def test_backends_that_are_laid_out_are_used_where_they_are(laid_out: Path, tmp_path: Path) -> None:
    runtime = find_runtime(tmp_path)
    assert runtime.backends == laid_out
    assert f"--backend-directory={laid_out}" in runtime.arguments
    assert [path.name for path in tmp_path.iterdir()] == ["share"]


@wheel_only
@pytest.mark.parametrize("file", [f"python/{STUB}", "python/libtriton_python.so"])
def test_backends_of_another_wheel_or_half_of_them_are_not(laid_out: Path, tmp_path: Path, file: str) -> None:
    (laid_out / file).write_bytes(b"of another version")
    assert find_runtime(tmp_path).backends == tmp_path / "backends"
    shutil.rmtree(tmp_path / "backends")
    (laid_out / file).unlink()
    assert find_runtime(tmp_path).backends == tmp_path / "backends"
    triton_runtime.main()  # mends it
    assert find_runtime(tmp_path).backends == laid_out


@wheel_only
def test_a_native_backend_of_other_sources_is_not_loaded(laid_out: Path, tmp_path: Path) -> None:
    """The backend in Python takes its place."""
    (laid_out / "pytorch").mkdir(exist_ok=True)
    (laid_out / "pytorch" / native.LIBRARY).touch()
    (laid_out / "pytorch" / native.STAMP).write_text("other sources")
    runtime = find_runtime(tmp_path)
    assert runtime.backends == tmp_path / "backends"
    assert [path.name for path in (runtime.backends / "pytorch").iterdir()] == ["model.py"]


@wheel_only
def test_a_stub_that_may_not_be_executed(laid_out: Path, tmp_path: Path) -> None:
    """The kernel's answer is that of a file system mounted noexec."""
    (laid_out / "python" / STUB).chmod(0o644)
    with pytest.raises(
        RuntimeNotFoundError, match=r"may not be run from .*/python, which is mounted noexec .*tmp:rw,exec"
    ):
        find_runtime(tmp_path)


@wheel_only
def test_a_path_that_triton_cannot_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_runtime, "LAID_OUT", tmp_path / "my venv" / "backends")
    copy_native(triton_runtime.LAID_OUT)
    with pytest.raises(SystemExit, match=r"serve: Triton cannot take the path .*/my venv/backends"):
        triton_runtime.main()
    monkeypatch.setattr(triton_runtime, "is_plain", lambda path: True)
    triton_runtime.main()
    monkeypatch.undo()
    monkeypatch.setattr(triton_runtime, "LAID_OUT", tmp_path / "my venv" / "backends")
    assert find_runtime(tmp_path).backends == tmp_path / "backends"


@wheel_only
def test_laying_out_where_nobody_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(triton_runtime, "LAID_OUT", tmp_path / "file" / "backends")
    with pytest.raises(SystemExit, match=r"serve: .*Not a directory"):
        triton_runtime.main()


def test_tritons_own_image_gets_its_own_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = tmp_path / "bin" / "tritonserver"
    server.parent.mkdir()
    server.write_text('#!/bin/sh\necho "$PATH $LD_LIBRARY_PATH $VIRTUAL_ENV"\n')
    server.chmod(0o755)
    monkeypatch.setattr(triton_runtime, "NGC_SERVER", server)
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:/opt/tritonserver/bin:{os.environ['PATH']}")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/usr/local/nvidia/lib:{sys.prefix}/lib")
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    runtime = find_runtime(tmp_path)
    assert runtime.program == server
    assert runtime.arguments == ()
    assert runtime.backends == tmp_path / "backends"
    told = subprocess.run([server], env=runtime.environment, capture_output=True, text=True, check=True).stdout
    assert told.startswith("/opt/tritonserver/bin:")
    assert sys.prefix not in told
    assert "/usr/local/nvidia/lib" in told
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert "LD_LIBRARY_PATH" not in find_runtime(tmp_path).environment


def test_what_the_image_has_bash_set_up_reaches_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's images look for an older driver's libraries in a file that bash reads; Triton is the same process."""
    server, startup = tmp_path / "bin" / "tritonserver", tmp_path / "startup"
    server.parent.mkdir()
    server.write_text('#!/bin/sh\necho "$$ $FOUND_BY_BASH" "$@"\n')
    server.chmod(0o755)
    startup.write_text("export FOUND_BY_BASH=compat\n")
    monkeypatch.setattr(triton_runtime, "NGC_SERVER", server)
    monkeypatch.setenv("BASH_ENV", str(startup))
    runtime = find_runtime(tmp_path)
    command = [str(runtime.program), *runtime.arguments, "--model-repository=a b"]
    with subprocess.Popen(command, env=runtime.environment, stdout=subprocess.PIPE, text=True) as started:
        told, _ = started.communicate()
    assert told == f"{started.pid} compat --model-repository=a b\n"
