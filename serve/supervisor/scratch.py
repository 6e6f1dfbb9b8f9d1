"""Room to write into: a temporary folder, and shared memory for the models in Triton's Python backend."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from serve.errors import StartError
from serve.triton.runtime import is_plain

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
TEMPORARY = Path("/tmp")  # noqa: S108  Triton's Python backend writes there, whatever TMPDIR says
LEAST = 64 * 2**10  # in the temporary folder: the smallest of repositories fits into half of it
FULL = (errno.ENOSPC, errno.EDQUOT)
MORE = "mount one (docker run --tmpfs /tmp:rw,exec,size=64m …), or name another folder with TMPDIR"


def scratch_folder() -> Path:
    """A new folder for what `serve` writes. Raises StartError."""
    try:
        own = None if is_plain(tempfile.gettempdir()) else TEMPORARY
        folder = Path(tempfile.mkdtemp(prefix="serve-", dir=own))
    except OSError as error:
        raise StartError(f"there is no temporary folder to write into: {error.strerror}; {MORE}") from error
    if shutil.disk_usage(folder).free < LEAST:
        folder.rmdir()
        raise StartError(f"the temporary folder {folder.parent} is full; {MORE}")
    return folder


def free_shared_memory() -> int:
    """What is left of it in bytes."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0


def clear_shared_memory(prefix: str) -> None:
    """Remove the regions that a killed Triton has left."""
    for left in SHARED_MEMORY.glob(f"{prefix}*"):
        left.unlink(missing_ok=True)


def check_room(instances: int, region: int, free: int) -> None:
    """Raises StartError if so many processes of the Python backend, each with a region of shared memory, have no room.

    `region` and `free`, what is left of shared memory, are in bytes.
    """
    needed = instances * region
    if free < needed:
        if SHARED_MEMORY.is_dir():
            has, otherwise = f"{SHARED_MEMORY} has {free / 2**20:.1f} MB free", ""
        else:
            has = f"there is no {SHARED_MEMORY}"
            otherwise = "; where a platform has none, take an image whose Triton has the libtorch backend"
        raise StartError(
            f"{has}, and the models here need at least {needed / 2**20:.0f} MB of it (Triton's Python backend runs "
            f"{instances} instances): start the container with --shm-size={max(64, 2 * needed // 2**20)}m or more"
            f"{otherwise}"
        )
    for folder in (SHARED_MEMORY, TEMPORARY) if instances else ():
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise StartError(
                f"cannot write into {folder}, as Triton's Python backend must: {error.strerror}; mount a tmpfs there "
                "that this user may write to"
            ) from error
