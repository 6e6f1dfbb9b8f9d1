"""Finds a tritonserver and makes it runnable: the NGC image's, else the one in the nvidia-pytriton wheel.

The wheel's server has no libtorch backend, so `serve/backends/pytorch` stands in for it under the same name: a model
repository runs on either without a change.
"""

from __future__ import annotations

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

log = logging.getLogger("serve")

NGC_SERVER = Path("/opt/tritonserver/bin/tritonserver")
LOCAL_BACKENDS = Path(__file__).parent / "backends"
STUB = "triton_python_backend_stub"
STUB_SECONDS = 20


class RuntimeNotFoundError(Exception):
    """There is no tritonserver that could run here; the message says what to install."""


@dataclass(frozen=True)
class TritonRuntime:
    """How to start a server: its program, further arguments, and its environment."""

    program: Path
    arguments: tuple[str, ...]
    environment: dict[str, str]

    def knows(self, flag: str) -> bool:
        """Whether this release has an argument."""
        try:
            told = subprocess.run(
                [self.program, "--help"], env=self.environment, capture_output=True, timeout=STUB_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return re.search(rf"{re.escape(flag)}\b".encode(), told.stdout + told.stderr) is not None


def find_runtime(scratch: Path) -> TritonRuntime:
    """The server to use. The wheel's backends are laid out under `scratch`, an existing, writable folder.

    Raises RuntimeNotFoundError.
    """
    if NGC_SERVER.exists():
        return TritonRuntime(NGC_SERVER, (), _environment())
    spec = importlib.util.find_spec("pytriton")  # finding is enough: importing it would set up logging and more
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeNotFoundError(
            f"no tritonserver: neither {NGC_SERVER} nor the package nvidia-pytriton is installed "
            "(pip install -r requirements.txt)"
        )
    package = Path(spec.submodule_search_locations[0])
    server = package / "tritonserver"
    environment = _wheel_environment(package.parent / "nvidia_pytriton.libs")
    backends = _lay_out_backends(server, scratch / "backends")
    _check_stub(backends / "python" / STUB, environment)
    arguments = [f"--backend-directory={backends}"]
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        log.info("no GPU here: models run on the CPU (Triton's own error about CudaDriverHelper means the same)")
        arguments.append("--pinned-memory-pool-byte-size=0")  # else Triton complains twice more
    return TritonRuntime(server / "bin" / "tritonserver", tuple(arguments), environment)


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop("AIP_MODE", None)  # it would open Triton's endpoint for another platform
    # Threads of several models on few cores: spinning at each barrier made a step up to 30 times slower (docs/log.md).
    environment.setdefault("GOMP_SPINCOUNT", "1000")
    return environment


def _wheel_environment(libraries: Path) -> dict[str, str]:
    """The stub needs the wheel's libraries and libpython, and takes the first python3 on PATH as its interpreter."""
    python_libraries = [sysconfig.get_config_var("LIBDIR") or "", str(Path(sys.prefix, "lib"))]
    library_path = [str(libraries), *python_libraries, os.environ.get("LD_LIBRARY_PATH", "")]
    environment = _environment()
    environment["LD_LIBRARY_PATH"] = ":".join(path for path in library_path if path)
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    return environment


def _lay_out_backends(server: Path, target: Path) -> Path:
    """Copies, not links: Triton refuses a backend library that leads out of its directory."""
    python = target / "python"
    shutil.copytree(server / "backends" / "python", python, ignore=shutil.ignore_patterns("__pycache__"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / STUB
    if not stub.exists():
        raise RuntimeNotFoundError(f"the wheel's tritonserver has no stub for Python {version}; use 3.10, 3.11 or 3.12")
    shutil.copy2(stub, python / STUB)
    shutil.copytree(LOCAL_BACKENDS / "pytorch", target / "pytorch", ignore=shutil.ignore_patterns("__pycache__"))
    return target


def _check_stub(stub: Path, environment: dict[str, str]) -> None:
    """A stub that cannot load its libraries makes the server hang at start; without arguments it ends at once."""
    try:
        ended = subprocess.run([stub], env=environment, capture_output=True, timeout=STUB_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeNotFoundError(f"Triton's Python stub cannot be started: {error}") from error
    if ended.returncode == 127:
        reason = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        package = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
        raise RuntimeNotFoundError(
            f"Triton's Python stub cannot load its libraries: {''.join(reason)}. Install {package} "
            f"(Debian, Ubuntu: apt-get update && apt-get install {package}), or run scripts/ensure_libpython.sh"
        )
