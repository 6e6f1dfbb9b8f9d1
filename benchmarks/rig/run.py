"""What every section of `make bench` works with: the model that is measured, where points go, and the machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import ROOT
from benchmarks.rig.points import Points
from benchmarks.rig.rig import Bench, Recommender, random_recommender
from serve.triton.runtime import NGC_SERVER

MODEL, FACTORS = "neumf", 32
USERS, ITEMS = 6_040, 3_706  # MovieLens-1M's shape; weights are random, for time does not depend on them
BODIES = 64  # different requests that a round sends in turn


@dataclass(frozen=True)
class BenchRun:
    """One run of the benchmark: `bench` has the scratch folder, rounds, seconds a point, `quick` and progress."""

    bench: Bench
    points: Points

    @cached_property
    def recommender(self) -> Recommender:
        made = random_recommender(self.bench, MODEL, FACTORS, USERS, ITEMS)
        for config in made.repository.glob("*/config.pbtxt"):  # for the report
            kept = self.points.folder / "configs" / f"{config.parent.name}.pbtxt"
            kept.parent.mkdir(exist_ok=True)
            shutil.copyfile(config, kept)
        return made

    @property
    def quick(self) -> bool:
        return self.bench.quick


Section = Callable[[BenchRun], None]


def machine() -> dict[str, Any]:
    """What the figures depend on; a run is continued only where all of it is the same."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')}, Linux {platform.release()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "tritonserver": triton_version(),
        "model": f"{MODEL}, {FACTORS} factors, {USERS:,} users × {ITEMS:,} items",
    }


def processor() -> str:
    """The processor's name, as Linux has it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def triton_version() -> str:
    """Which tritonserver `serve` finds here."""
    if NGC_SERVER.exists():
        return f"{NGC_SERVER}, release {os.environ.get('NVIDIA_TRITON_SERVER_VERSION', 'unknown')}, libtorch backend"
    return f"of nvidia-pytriton {version('nvidia-pytriton')}, stand-in for the libtorch backend"


def commit() -> str:
    """The commit that is checked out, marked where files differ from it; of an unpacked archive `unknown`."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        found = ""
    return found or "unknown"
