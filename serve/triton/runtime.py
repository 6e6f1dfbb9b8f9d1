"""Finds a tritonserver and makes it runnable: the NGC image's, else the one in the nvidia-pytriton wheel.

The wheel's server has no libtorch backend. Ours in C++ (native.py) takes its place under the same name, so a model
repository runs on either server without a change; where it could not be built, `backends/pytorch/model.py` does, in
one slower Python process an instance. `python3 -m serve.triton.runtime` builds it and lays the backends out for good,
as `make` and the image do: then a start copies nothing, and nothing in /tmp needs to be executable.
"""

from __future__ import annotations

import filecmp
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from serve.triton import native

log = logging.getLogger("serve")

NGC_SERVER = Path("/opt/tritonserver/bin/tritonserver")
LOCAL_BACKENDS = Path(__file__).parent / "backends"
LAID_OUT = Path(sys.prefix, "share", "ncf-triton", "backends")
STUB = "triton_python_backend_stub"
STUB_SECONDS = 20


class RuntimeNotFoundError(Exception):
    """There is no tritonserver that could run here; the message says what to install."""


@dataclass(frozen=True)
class TritonRuntime:
    """How to start a server: its program, further arguments, its environment, and the folder of its backends."""

    program: Path
    arguments: tuple[str, ...]
    environment: dict[str, str]
    backends: Path

    def knows(self, flag: str) -> bool:
        """Whether this release has an argument."""
        try:
            command = [str(self.program), *self.arguments, "--help"]
            told = subprocess.run(command, env=self.environment, capture_output=True, timeout=STUB_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return re.search(rf"{re.escape(flag)}\b".encode(), told.stdout + told.stderr) is not None


def is_plain(path: str | Path) -> bool:
    """Whether Triton's Python backend takes a path: no space, nothing beyond ASCII."""
    return re.fullmatch(r"[A-Za-z0-9._/-]+", str(path)) is not None


def find_runtime(scratch: Path) -> TritonRuntime:
    """The server to use. Backends that are not laid out for good are copied into `scratch`, an existing folder.

    Raises RuntimeNotFoundError, or OSError if `scratch` has no room.
    """
    if NGC_SERVER.exists():
        program, arguments = _in_bash(NGC_SERVER) if os.environ.get("BASH_ENV") else (NGC_SERVER, ())
        return TritonRuntime(program, arguments, _ngc_environment(), NGC_SERVER.parents[1] / "backends")
    server = _wheel()
    files = _backend_files(server)
    backends = LAID_OUT if is_plain(LAID_OUT) and _are_laid_out(files, LAID_OUT) else scratch / "backends"
    if backends != LAID_OUT:
        _lay_out(files, backends)
    environment = _wheel_environment(server.parents[1] / "nvidia_pytriton.libs")
    _check_stub(backends / "python" / STUB, environment)
    if (backends / "pytorch" / "model.py").exists():
        log.warning(
            "the native pytorch backend is not built here, so TorchScript runs in slower Python processes; install g++ "
            "and run python3 -m serve.triton.runtime"
        )
    flags = [f"--backend-directory={backends}"]
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        log.info("no GPU here: models run on the CPU (Triton's own error about CudaDriverHelper means the same)")
        flags.append("--pinned-memory-pool-byte-size=0")  # else Triton complains twice more
    return TritonRuntime(server / "bin" / "tritonserver", tuple(flags), environment, backends)


def _in_bash(program: Path) -> tuple[Path, tuple[str, ...]]:
    """A program and its first arguments: bash, which becomes the program, with what the image has it read at its start.
    NVIDIA's images find the CUDA libraries there that go with an older driver.
    """
    return Path("/bin/bash"), ("-c", 'exec "$0" "$@"', str(program))


def _wheel() -> Path:
    """The folder of the wheel's tritonserver. Raises RuntimeNotFoundError."""
    spec = importlib.util.find_spec("pytriton")  # finding is enough: importing it would set up logging and more
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeNotFoundError(
            f"no tritonserver: neither {NGC_SERVER} nor the package nvidia-pytriton is installed "
            "(pip install -r requirements.txt)"
        )
    return Path(spec.submodule_search_locations[0]) / "tritonserver"


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop("AIP_MODE", None)  # it would open Triton's endpoint for another platform
    # Threads of several models on few cores: spinning at each barrier made a step up to 30 times slower (docs/log.md).
    environment.setdefault("GOMP_SPINCOUNT", "1000")
    # glibc gives memory of a megabyte back at once and gets it anew, page by page, for the next request: without that
    # a model's process ranks 1.4 times as many users a second on a CPU (docs/log.md).
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))  # the most that glibc takes
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(128 << 20))
    return environment


def _ngc_environment() -> dict[str, str]:
    """Without our virtual environment: models in Python get the python3 and the packages of Triton's own image."""
    environment = _environment()
    if sys.prefix != sys.base_prefix:
        environment.pop("VIRTUAL_ENV", None)
        for name in {"PATH", "LD_LIBRARY_PATH"} & set(environment):
            paths = environment[name].split(":")
            environment[name] = ":".join(path for path in paths if not Path(path).is_relative_to(sys.prefix))
    return environment


def _wheel_environment(libraries: Path) -> dict[str, str]:
    """The stub needs the wheel's libraries and libpython, and takes the first python3 on PATH as its interpreter."""
    python_libraries = [sysconfig.get_config_var("LIBDIR") or "", str(Path(sys.prefix, "lib"))]
    library_path = [str(libraries), *python_libraries, os.environ.get("LD_LIBRARY_PATH", "")]
    environment = _environment()
    environment["LD_LIBRARY_PATH"] = ":".join(path for path in library_path if path)
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    return environment


def _backend_files(server: Path) -> dict[str, Path]:
    """What a folder of backends holds, and where each file comes from. Raises RuntimeNotFoundError."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / STUB
    if not stub.exists():
        raise RuntimeNotFoundError(f"the wheel's tritonserver has no stub for Python {version}; use 3.10, 3.11 or 3.12")
    python = [path for path in (server / "backends" / "python").iterdir() if path.is_file()]
    return {
        **{f"python/{path.name}": path for path in (*python, stub)},
        **_pytorch_files(),
    }


def _pytorch_files() -> dict[str, Path]:
    """The native backend where it is built, else the stand-in in Python."""
    built = LAID_OUT / "pytorch"
    if native.is_built(built):
        return {f"pytorch/{name}": built / name for name in (native.LIBRARY, native.STAMP)}
    return {"pytorch/model.py": LOCAL_BACKENDS / "pytorch" / "model.py"}


def _are_laid_out(files: dict[str, Path], folder: Path) -> bool:
    """Whether a folder holds these very files: not those of another wheel, nor half of them."""
    try:
        return all(filecmp.cmp(source, folder / name, shallow=False) for name, source in files.items())
    except OSError:
        return False


def _lay_out(files: dict[str, Path], target: Path) -> None:
    """Copies, not links: Triton refuses a backend library that leads out of its directory."""
    for name, source in files.items():
        if source == target / name:
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / name)
    (target / "python" / STUB).chmod(0o755)


def _check_stub(stub: Path, environment: dict[str, str]) -> None:
    """A stub that cannot load its libraries makes the server hang at start; without arguments it ends at once."""
    try:
        ended = subprocess.run([stub], env=environment, capture_output=True, timeout=STUB_SECONDS, check=False)
    except PermissionError as error:
        raise RuntimeNotFoundError(
            f"Triton's Python stub may not be run from {stub.parent}, which is mounted noexec (as Docker's --tmpfs is "
            "unless it says exec): use --tmpfs /tmp:rw,exec,…, or set TMPDIR to a folder that programs may be run "
            "from, or lay Triton's backends out for good with python3 -m serve.triton.runtime"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeNotFoundError(f"Triton's Python stub cannot be started: {error}") from error
    if ended.returncode == 127:
        reason = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        package = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
        raise RuntimeNotFoundError(
            f"Triton's Python stub cannot load its libraries: {''.join(reason)}. Install {package} "
            f"(Debian, Ubuntu: apt-get update && apt-get install {package}), or run scripts/ensure_libpython.sh"
        )


def main() -> None:
    """Build the native backend and lay the wheel's backends out where `find_runtime` looks for them."""
    if not is_plain(LAID_OUT):
        sys.exit(
            f"serve: Triton cannot take the path {LAID_OUT}: it has more than letters, digits, '.', '_', '/' and '-'"
        )
    if not native.is_built(LAID_OUT / "pytorch"):
        print("building the pytorch backend with g++; this takes a minute")
        try:
            native.build(LAID_OUT / "pytorch")
        except native.NotBuiltError as error:
            print(f"the pytorch backend is not built: {error}; TorchScript will run in slower Python processes")
    try:
        _lay_out(_backend_files(_wheel()), LAID_OUT)
    except (OSError, RuntimeNotFoundError) as error:
        sys.exit(f"serve: {error}")


if __name__ == "__main__":
    main()
