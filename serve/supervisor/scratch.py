"""Space to write into: a temporary folder, and shared memory for the models in Triton's Python backend."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from serve.errors import StartError
from serve.triton.python_processes import end_processes
from serve.triton.runtime import is_plain

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
TEMPORARY = Path("/tmp")  # noqa: S108  Triton's Python backend writes there even if TMPDIR is set
LOCK = re.compile(r"serve-([0-9a-f]{8})\.lock")
LEAST = 64 * 2**10  # bytes of free space in the temporary folder; a small repository needs half of that
FULL = (errno.ENOSPC, errno.EDQUOT)
MORE = "mount one (docker run --tmpfs /tmp:rw,exec,size=64m …), or name another folder with TMPDIR"


def scratch_folder() -> Path:
    """A new folder for the files that `serve` writes. Raises StartError."""
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
    """The bytes that are free, 0 if there is no shared memory."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0


def clear_shared_memory(prefix: str) -> None:
    """Remove the regions that a killed tritonserver has left; it was started with this prefix."""
    for left in SHARED_MEMORY.glob(f"{prefix}*"):
        left.unlink(missing_ok=True)


def lock_of(prefix: str) -> Path:
    """The file that is locked while the owner of a prefix lives."""
    return SHARED_MEMORY / f"serve-{prefix[6:-1]}.lock"


def own_shared_memory() -> tuple[str, BinaryIO | None]:
    """A new prefix for names in shared memory, and its locked file (`lock_of`), None where there can be none.

    What killed predecessors have left is removed, the models' processes that still run included.
    """
    token = secrets.token_hex(4)
    own = f"serve_{token}_"
    if not (SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)):
        return own, None
    for path in SHARED_MEMORY.glob("serve-*.lock"):
        name = LOCK.fullmatch(path.name)
        with suppress(OSError):
            if not name or not stat.S_ISREG(path.lstat().st_mode) or path.lstat().st_uid != os.getuid():
                continue  # it is not of a `serve` of this user
            with path.open("rb") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its owner lives, wherever that is
                prefix = f"serve_{name[1]}_"
                end_processes(prefix)
                clear_shared_memory(prefix)
                path.unlink()
    # The name is locked before others can see it: one that is not locked would be taken for a dead owner's.
    unseen = SHARED_MEMORY / f".serve-{token}"
    try:
        lock = unseen.open("xb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        unseen.rename(lock_of(own))
    except OSError:  # full, or without locks: then nobody clears up after a kill
        unseen.unlink(missing_ok=True)
        return own, None
    return own, lock


def check_room(instances: int, region: int, free: int) -> None:
    """Raises StartError if the processes of the Python backend have not enough space to write into.

    Each of the `instances` takes `region` bytes of shared memory, of which `free` bytes are free.
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
