"""The machine, the versions and the commit that a run of the benchmarks depends on."""

from __future__ import annotations

import os
import platform
import subprocess
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import ROOT
from serve.triton.native import is_built
from serve.triton.runtime import LAID_OUT, NGC_SERVER


def machine() -> dict[str, Any]:
    """What figures depend on; an interrupted run can be continued only where all of it is the same."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')}, Linux {platform.release()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "tritonserver": triton_version(),
    }


def processor() -> str:
    """The processor's name in /proc/cpuinfo."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def triton_version() -> str:
    """The tritonserver that `serve` finds on this machine."""
    if NGC_SERVER.exists():
        return f"{NGC_SERVER}, release {os.environ.get('NVIDIA_TRITON_SERVER_VERSION', 'unknown')}, libtorch backend"
    backend = "native pytorch backend" if is_built(LAID_OUT / "pytorch") else "stand-in for the libtorch backend"
    return f"of nvidia-pytriton {version('nvidia-pytriton')}, {backend}"


def package_folders() -> list[str]:
    """The folders with this environment's packages; torch may be in the environment of another Python."""
    return list(dict.fromkeys([sysconfig.get_path("purelib"), str(Path(torch.__file__).resolve().parents[1])]))


def commit() -> str:
    """The commit that is checked out, marked as dirty where files differ from it; `unknown` where there is no git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        found = ""
    return found or "unknown"
