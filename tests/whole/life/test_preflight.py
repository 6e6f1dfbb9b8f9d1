"""What an image may be given that it cannot run with, said in one line and at once; and what it must manage with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from serve.triton.gpus import count_gpus
from serve.triton.runtime import NGC_SERVER
from tests.support.eventually import eventually
from tests.support.native_backend import copy_native
from tests.support.serving import Server, children_of, run_serve
from tests.support.small_models import slow_body, slow_model

pytestmark = pytest.mark.e2e

# File systems of our own: as root, or as another user where the system allows that.
OWN_MOUNTS = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
LAID_OUT = """
import sys
from pathlib import Path
from serve.triton import runtime as triton_runtime
from serve.__main__ import main
triton_runtime.LAID_OUT = Path(sys.argv.pop(1))
triton_runtime.main() if sys.argv[1:] else main()
"""
AS_PROCESS_1 = """
import ctypes
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what loses its parent becomes our child
from serve.__main__ import main
main()
"""


def can_mount() -> bool:
    with suppress(OSError):
        return subprocess.run([*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode == 0
    return False


wheel_only = pytest.mark.skipif(NGC_SERVER.exists(), reason="this machine has Triton's own image")
needs_mounts = pytest.mark.skipif(
    NGC_SERVER.exists() or not can_mount(),
    reason="no mounts of our own; tests/serve/supervisor/test_scratch.py and test_triton_runtime.py",
)


def on(tmp: str, shm: str, folder: Path, *command: object) -> list[str]:
    """A command to which `folder` is its temporary folder; both mounted with such options."""
    mounts = f'mount -t tmpfs -o {tmp} tmpfs "$TMPDIR" && mount -t tmpfs -o {shm} tmpfs /dev/shm && exec "$@"'
    folder.mkdir(exist_ok=True)
    return [*OWN_MOUNTS, "env", f"TMPDIR={folder}", "sh", "-c", mounts, "sh", *map(str, command)]


def log_of(server: Server) -> str:
    """Of a `serve` that ends by itself, without a traceback."""
    assert server.process.wait(120) == 1
    log = server.log.read_text()
    assert "Traceback" not in log
    return log


@pytest.mark.parametrize(
    ("path", "config", "message"),
    [
        (
            "model_repository/slow",
            "",
            "the models are in {path}/model_repository; mount that folder, or name it with SERVE",
        ),
        (
            "slow",
            'platform: "tensorrt_plan"',
            "slow is not served: {path}/slow/config.pbtxt asks for the backend 'tensorrt'",
        ),
        (
            "slow",
            'backend: "python" instance_group { kind: KIND_GPU }',
            "asks for a GPU (KIND_GPU), and there is none here",
        ),
        ("slow", 'backend: "pytorch"', "slow is not served: {path}/slow/1/model.pt is missing; copy it"),
    ],
)
def test_a_repository_that_cannot_be_served_here(tmp_path: Path, path: str, config: str, message: str) -> None:
    if count_gpus() and "KIND_GPU" in config:
        pytest.skip("there is a GPU")
    model = slow_model((tmp_path / path).parent)
    if config:
        (model / "config.pbtxt").write_text(config)
    ended = run_serve(tmp_path)
    assert ended.returncode == 1
    assert message.format(path=tmp_path) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "server.cc" not in ended.stderr  # Triton, which writes this at every start here, has not been started


def test_a_broken_model_among_others_is_said_and_costs_only_itself(server: Server, repository: Path) -> None:
    reason = f"{repository}/broken/1/model.pt cannot be loaded as TorchScript: it is no such file"
    assert f"serve: broken: version 1 is not served: broken: {reason}" in server.log.read_text()
    assert server.ping() == 200


@needs_mounts
def test_the_least_of_room_is_enough(tmp_path: Path) -> None:
    """Shared memory to the byte, and a temporary folder from which nothing may be executed."""
    model, laid_out = slow_model(tmp_path / "models"), tmp_path / "laid_out"
    config = (model / "config.pbtxt").read_text()
    (model / "config.pbtxt").write_text(config.replace("count: 1", "count: 2"))
    copy_native(laid_out)
    subprocess.run([sys.executable, "-c", LAID_OUT, laid_out, "lay out"], check=True)
    server = Server(tmp_path / "models")
    server.command = on("size=128k,noexec", "size=2m", tmp_path / "tmp", sys.executable, "-c", LAID_OUT, laid_out)
    with server:
        server.wait_until_ready()
        assert server.invoke(slow_body(0, 7)).json["outputs"][0]["data"] == [7]
        assert server.stop() == 0


@needs_mounts
@pytest.mark.parametrize(
    ("tmp", "shm", "message"),
    [
        (
            "size=16m,noexec",
            "size=64m",
            "which is mounted noexec (as Docker's --tmpfs is unless it says exec): use --tmpfs",
        ),
        ("size=16k,exec", "size=64m", "/tmp is full; mount one (docker run --tmpfs /tmp:rw,exec,size=64m …), or name"),
        ("size=1m,exec", "size=64m", "/tmp is full; mount one"),
        ("size=16m,exec", "size=1m", "/dev/shm has 1.0 MB free, and the models here need at least 2 MB of it"),
        ("size=16m,exec", "ro", "cannot write into /dev/shm, as Triton's Python backend must: Read-only file system"),
    ],
)
def test_no_room(tmp_path: Path, tmp: str, shm: str, message: str) -> None:
    model = slow_model(tmp_path / "models")
    (model / "config.pbtxt").write_text((model / "config.pbtxt").read_text().replace("count: 1", "count: 2"))
    server = Server(tmp_path / "models")
    server.command = on(tmp, shm, tmp_path / "tmp", sys.executable, "-c", LAID_OUT, tmp_path / "none")
    with server:
        assert message in log_of(server)


@wheel_only
def test_without_the_native_backend_python_answers_and_the_log_says_why(one_model: Path, tmp_path: Path) -> None:
    server = Server(one_model)
    server.command = [sys.executable, "-c", LAID_OUT, str(tmp_path)]
    with server:
        server.wait_until_ready()
        assert server.invoke({"user_id": "user 0", "k": 2}).status == 200
        (line,) = [line for line in server.log.read_text().splitlines() if "TorchScript" in line]
    library = tmp_path / "pytorch" / "libtriton_pytorch.so"
    assert (
        f"runs in slower Python processes, because the native pytorch backend {library} does not exist; install" in line
    )


def test_process_1_buries_what_its_children_leave_behind(tmp_path: Path) -> None:
    slow_model(tmp_path)
    server = Server(tmp_path)
    server.command = [sys.executable, "-c", AS_PROCESS_1]
    with server:
        server.wait_until_ready()
        eventually(lambda: "ready after" in server.log.read_text())
        os.kill(children_of(server.process.pid)["tritonserver"], signal.SIGKILL)
        eventually(lambda: "(1 of 3)" in server.log.read_text())
        server.wait_until_ready()
        eventually(lambda: zombies_of(server.process.pid) == [])
        assert server.invoke(slow_body(0, 7)).status == 200


def zombies_of(pid: int) -> list[str]:
    states = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            states.append(stat.read_text().rpartition(")")[2].split()[:2])
    return [state for state, parent in states if parent == str(pid) and state == "Z"]


def test_sigterm_has_a_handler_before_more_is_imported() -> None:
    """Without one, process 1 of a container would go on; importing takes a tenth of a second and more."""
    code = "import signal, sys; before = {*sys.modules}; import serve.__main__; print(*sys.modules.keys() - before)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {name.partition(".")[0] for name in told.split()} == {"serve"}
    assert "serve.settings" not in told


def test_another_configuration_than_the_one_read_here_is_not_judged(tmp_path: Path) -> None:
    """Triton takes configs/<name>.pbtxt where it is told to; only the usual one asks for a GPU that is not here."""
    slow_model(tmp_path)
    usual = tmp_path / "slow" / "config.pbtxt"
    (tmp_path / "slow" / "configs").mkdir()
    shutil.copy(usual, tmp_path / "slow" / "configs" / "cpu.pbtxt")
    usual.write_text(usual.read_text().replace("KIND_CPU", "KIND_GPU"))
    with Server(tmp_path, SAGEMAKER_TRITON_ADDITIONAL_ARGS="--model-config-name=cpu") as server:
        server.wait_until_ready()
        assert server.invoke(slow_body(0, 1)).status == 200
