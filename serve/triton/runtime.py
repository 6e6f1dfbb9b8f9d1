"""Finds a tritonserver and prepares its start: that of NVIDIA's image, or else that of the nvidia-pytriton wheel.

The wheel's server has no libtorch backend. Our own in C++ (native.py) takes its place under the same name: a model
repository runs on either server without a change. If it could not be built, `backends/pytorch/model.py` is used, in a
slower Python process for each instance. `python3 -m serve.triton.runtime` builds it and copies the backends to
their permanent place, as `make` and the image do; then a start copies nothing, and /tmp may be mounted noexec.
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
from serve.triton.gpus import count_gpus

log = logging.getLogger("serve")

NGC_SERVER = Path("/opt/tritonserver/bin/tritonserver")
LOCAL_BACKENDS = Path(__file__).parent / "backends"
LAID_OUT = Path(sys.prefix, "share", "ncf-triton", "backends")
STUB = "triton_python_backend_stub"
STUB_SECONDS = 20


class RuntimeNotFoundError(Exception):
    """No tritonserver can run here; the message says what to install."""


@dataclass(frozen=True)
class TritonRuntime:
    """How to start a tritonserver; `backends` is the folder of its backends."""

    program: Path
    arguments: tuple[str, ...]
    environment: dict[str, str]
    backends: Path

    def knows(self, flag: str) -> bool:
        """Whether this release's help mentions a flag."""
        try:
            command = [str(self.program), *self.arguments, "--help"]
            help = subprocess.run(command, env=self.environment, capture_output=True, timeout=STUB_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return re.search(rf"{re.escape(flag)}\b".encode(), help.stdout + help.stderr) is not None


def is_plain(path: str | Path) -> bool:
    """Whether Triton's Python backend can use a path: it fails with spaces and with characters outside ASCII."""
    return re.fullmatch(r"[A-Za-z0-9._/-]+", str(path)) is not None


def find_runtime(scratch: Path) -> TritonRuntime:
    """The server to use. Unless its backends have a permanent place, they are copied into the folder `scratch`.

    Raises RuntimeNotFoundError, or OSError if `scratch` is full.
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
        library = LAID_OUT / "pytorch" / native.LIBRARY
        why = "is of other sources or another torch" if library.exists() else "does not exist"
        log.warning(
            "TorchScript runs in slower Python processes, because the native pytorch backend %s %s; install g++ and "
            "run python3 -m serve.triton.runtime",
            library,
            why,
        )
    else:
        log.info("TorchScript runs inside tritonserver, in the native pytorch backend")
    flags = [f"--backend-directory={backends}", f"--cache-directory={server / 'caches'}"]
    if not count_gpus():
        log.info("no GPU here: models run on the CPU (Triton's own error about CudaDriverHelper means the same)")
        flags.append("--pinned-memory-pool-byte-size=0")  # spares two more error lines of Triton's
    return TritonRuntime(server / "bin" / "tritonserver", tuple(flags), environment, backends)


def _in_bash(program: Path) -> tuple[Path, tuple[str, ...]]:
    """The program and first arguments that start `program` through bash, so that bash reads the file BASH_ENV.

    In that file NVIDIA's images find the CUDA libraries for an older driver.
    """
    return Path("/bin/bash"), ("-c", 'exec "$0" "$@"', str(program))


def _wheel() -> Path:
    """The folder of the wheel's tritonserver. Raises RuntimeNotFoundError."""
    spec = importlib.util.find_spec("pytriton")  # only found and not imported, because its import configures logging
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeNotFoundError(
            f"no tritonserver: neither {NGC_SERVER} nor the package nvidia-pytriton is installed "
            "(pip install -r requirements.txt)"
        )
    return Path(spec.submodule_search_locations[0]) / "tritonserver"


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop("AIP_MODE", None)  # it would open Triton's endpoint for another platform
    # If several models share few cores, OpenMP's spinning at barriers makes a step up to 30 times slower (docs/log.md).
    environment.setdefault("GOMP_SPINCOUNT", "1000")
    # By default glibc returns blocks of a megabyte to the kernel at once, and each request pays for new pages. Keeping
    # them lets a model's process rank 1.4 times as many users a second on a CPU (docs/log.md).
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 << 20))  # glibc's maximum
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(128 << 20))
    return environment


def _ngc_environment() -> dict[str, str]:
    """The environment without our virtual environment: models in Python use python3 and packages of NVIDIA's image."""
    environment = _environment()
    if sys.prefix != sys.base_prefix:
        environment.pop("VIRTUAL_ENV", None)
        for name in {"PATH", "LD_LIBRARY_PATH"} & set(environment):
            paths = environment[name].split(":")
            environment[name] = ":".join(path for path in paths if not Path(path).is_relative_to(sys.prefix))
    return environment


def _wheel_environment(libraries: Path) -> dict[str, str]:
    """The environment in which the stub finds the wheel's libraries, libpython, and first on PATH our python3."""
    python_libraries = [sysconfig.get_config_var("LIBDIR") or "", str(Path(sys.prefix, "lib"))]
    library_path = [str(libraries), *python_libraries, os.environ.get("LD_LIBRARY_PATH", "")]
    environment = _environment()
    environment["LD_LIBRARY_PATH"] = ":".join(path for path in library_path if path)
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    return environment


def _backend_files(server: Path) -> dict[str, Path]:
    """The files of the backends' folder, each with the file it is a copy of. Raises RuntimeNotFoundError."""
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
    """Whether a folder has all these files with the same content."""
    try:
        return all(filecmp.cmp(source, folder / name, shallow=False) for name, source in files.items())
    except OSError:
        return False


def _lay_out(files: dict[str, Path], target: Path) -> None:
    """Copy the files into a folder; links would not do, because Triton refuses libraries outside a backend's folder."""
    for name, source in files.items():
        if source == target / name:
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / name)
    (target / "python" / STUB).chmod(0o755)


def _check_stub(stub: Path, environment: dict[str, str]) -> None:
    """Start the stub without arguments, which ends at once, because tritonserver hangs if the stub cannot start.

    Raises RuntimeNotFoundError.
    """
    try:
        ended = subprocess.run([stub], env=environment, capture_output=True, timeout=STUB_SECONDS, check=False)
    except PermissionError as error:
        raise RuntimeNotFoundError(
            f"Triton's Python stub may not be run from {stub.parent}, which is mounted noexec (as Docker's --tmpfs is "
            "unless it says exec): use --tmpfs /tmp:rw,exec,…, or set TMPDIR to a folder that programs may be run "
            "from, or copy Triton's backends to their permanent place with python3 -m serve.triton.runtime"
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
    """Build the native backend and copy all backends to their permanent place, where `find_runtime` looks for them."""
    if not is_plain(LAID_OUT):
        sys.exit(
            f"serve: Triton cannot take the path {LAID_OUT}; it may have only letters, digits, '.', '_', '/' and '-'"
        )
    try:
        if not native.is_built(LAID_OUT / "pytorch"):
            print("building the pytorch backend with g++; this takes a minute", flush=True)
            LAID_OUT.mkdir(parents=True, exist_ok=True)
            try:
                native.build(LAID_OUT / "pytorch")
            except native.NotBuiltError as error:
                print(f"the pytorch backend is not built: {error}; TorchScript will run in slower Python processes")
        _lay_out(_backend_files(_wheel()), LAID_OUT)
    except (OSError, RuntimeNotFoundError) as error:
        sys.exit(f"serve: {error}")


if __name__ == "__main__":
    main()
