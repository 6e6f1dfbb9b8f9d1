"""The native pytorch backend that this environment has built, for tests that lay out backends elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from serve.triton import native
from serve.triton.runtime import LAID_OUT

BUILT = LAID_OUT / "pytorch"
IS_BUILT = native.is_built(BUILT)


def copy_native(backends: Path) -> None:
    """Copy it into a folder of backends, because compiling it there would take a minute."""
    if IS_BUILT:
        shutil.copytree(BUILT, backends / "pytorch")
