"""The docker command for tests, and what an image says of itself."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

CPU, GPU = os.environ.get("NCF_IMAGE", "localhost/ncf-ci-cpu"), os.environ.get("NCF_GPU_IMAGE", "localhost/ncf-ci-gpu")


def docker(*arguments: object, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run it; with `check` its failure is the test's."""
    ended = subprocess.run(
        ["docker", *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert not check or ended.returncode == 0, f"docker {arguments}: {ended.stdout}{ended.stderr}"
    return ended


def inspect(name: str) -> dict[str, Any]:
    """Of an image or a container."""
    found: dict[str, Any] = json.loads(docker("inspect", name).stdout)[0]
    return found


def python_in(image: str, program: str) -> Any:
    """What a program in Python, run in the image as its root, prints as JSON."""
    return json.loads(docker("run", "--rm", "--network=none", image, "python3", "-c", program).stdout)
