"""Builds the pytorch backend in C++, which runs TorchScript inside tritonserver itself.

The wheel's tritonserver has no libtorch backend, so `backends/pytorch/native` is compiled once, with g++ against the
headers and libraries of the installed torch. `python3 -m serve.triton.runtime` does it; `make` and the image call that.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serve.triton.gpus import count_gpus

SOURCES = Path(__file__).parent / "backends" / "pytorch" / "native"
LIBRARY = "libtriton_pytorch.so"
# Beside the library: what it was built from, so that a library of other sources or of another torch is not loaded.
STAMP = "built_from"
COMPILER = "g++"
FLAGS = ("-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter")


class NotBuiltError(Exception):
    """The backend cannot be built; the message says what is missing."""


def is_ours(backends: Path) -> bool:
    """Whether the pytorch backend in a folder of backends is one of this package, and not NVIDIA's."""
    folder = backends / "pytorch"
    return (folder / STAMP).exists() or not (folder / LIBRARY).exists()


def ranking_instances(backends: Path) -> int:
    """How many instances rank at once where a configuration does not say: one for each core if they share the weights
    inside tritonserver, and one in Python processes, on a GPU and in NVIDIA's image."""
    in_process = is_ours(backends) and (backends / "pytorch" / LIBRARY).exists()
    return len(os.sched_getaffinity(0)) if in_process and not count_gpus() else 1


def is_built(folder: Path) -> bool:
    """Whether `folder` holds the backend, built from these sources for the torch that is installed."""
    try:
        return (folder / LIBRARY).exists() and (folder / STAMP).read_text() == stamp()
    except (OSError, NotBuiltError):
        return False


def stamp() -> str:
    """A checksum of the sources and the version and place of torch. Raises NotBuiltError without torch."""
    summed = hashlib.sha256(f"{importlib.metadata.version('torch')} {_torch()} {FLAGS}".encode())
    for source in sorted(SOURCES.iterdir()):
        summed.update(source.read_bytes())
    return summed.hexdigest()


def build(folder: Path) -> None:
    """Compile the backend and put it into `folder`. Raises NotBuiltError, or OSError if `folder` has no room."""
    compiler, torch = shutil.which(COMPILER), _torch()
    if compiler is None:
        raise NotBuiltError(f"there is no {COMPILER} (Debian, Ubuntu: apt-get install g++)")
    if not (torch / "include").is_dir():
        raise NotBuiltError(f"{torch} has no headers")
    include = [f"-isystem{torch / 'include'}", f"-isystem{torch / 'include' / 'torch' / 'csrc' / 'api' / 'include'}"]
    with tempfile.TemporaryDirectory(prefix="ncf-triton-build-") as name:
        objects = [Path(name, f"{source.stem}.o") for source in sorted(SOURCES.glob("*.cc"))]
        commands = [
            [compiler, *FLAGS, *include, "-c", str(SOURCES / f"{each.stem}.cc"), "-o", str(each)] for each in objects
        ]
        with ThreadPoolExecutor(2) as threads:  # a compilation of PyTorch's headers takes 1 GB of memory
            list(threads.map(_run, commands))
        built = Path(name, LIBRARY)
        libraries = [f"-L{torch / 'lib'}", f"-Wl,-rpath,{torch / 'lib'}", "-Wl,--no-as-needed", "-ltorch", "-lc10"]
        cuda = ["-ltorch_cuda"] if (torch / "lib" / "libtorch_cuda.so").exists() else []
        _run([compiler, "-shared", "-o", str(built), *map(str, objects), *libraries, "-ltorch_cpu", *cuda])
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built, folder / LIBRARY)
    (folder / STAMP).write_text(stamp())


def _torch() -> Path:
    spec = importlib.util.find_spec("torch")  # its files are enough: importing it would take seconds and 200 MB
    if spec is None or not spec.submodule_search_locations:
        raise NotBuiltError("torch is not installed")
    return Path(spec.submodule_search_locations[0])


def _run(command: list[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if "error" in line] or ended.stderr.splitlines()
        raise NotBuiltError(f"{COMPILER} failed: {lines[0] if lines else f'exit code {ended.returncode}'}")
