"""Small files through which the processes of `serve` speak to each other."""

from __future__ import annotations

import os
import time
from pathlib import Path


def replace(path: Path, content: bytes | str) -> None:
    """Write a file in one step: a reader finds the old content or the new content, never half of one.

    Every write gives the file a later time than the write before, so a reader may compare times to notice a change.
    Only one process at a time may write to `path`. Raises OSError; the old content then stays.
    """
    new = path.with_suffix(".new")
    new.write_bytes(content.encode() if isinstance(content, str) else content)
    # Two writes within one tick of the file system's clock would get the same time.
    before = path.stat().st_mtime_ns if path.exists() else 0
    now = max(time.time_ns(), before + 1)
    os.utime(new, ns=(now, now))
    new.replace(path)
