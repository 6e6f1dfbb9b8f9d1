"""Whether a load or a request failed because there was too little memory.

A multi-model endpoint then answers 507: after a 507 SageMaker unloads other models and tries again, after any other
status it does not.
"""

from __future__ import annotations

import re
from pathlib import Path

# The words that Triton's own SageMaker endpoint looks for, then those of the C and C++ runtimes, PyTorch and Triton.
WORDS = re.compile(
    r"CUDA_OUT_OF_MEMORY|[Oo]ut [Oo]f [Mm]emory|MemoryError|OutOfMemory|\bOOM\b|"
    r"(?:Dst|Src) tensor is not initialized|CNMEM_STATUS_OUT_OF_MEMORY|CUDNN_STATUS_NOT_INITIALIZED|"
    r"CUBLAS_STATUS_(?:ALLOC_FAILED|NOT_INITIALIZED)|[Ff]ailed to allocate memory|No space left on device|"
    r"[Cc]annot allocate memory|can't allocate memory|bad_alloc|not enough memory|cudaErrorMemoryAllocation|"
    r"memory limit set for|Failed to increase the shared memory pool size"
)
DIED = re.compile(r"Stub process '[^']*' is not healthy")
COUNTED = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def oom_kills(root: Path = Path("/")) -> int:
    """The number of this container's processes that the kernel has killed for lack of memory; 0 if it is unknown."""
    for path in _counters(root):
        try:
            found = COUNTED.search(path.read_text())
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


def _counters(root: Path) -> list[Path]:
    """The files that may contain the count, the most specific first.

    /proc/self/cgroup may give the path of a container's cgroup on the host, although the container sees the same
    cgroup mounted as the root.
    """
    paths = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below = path.strip("/")
        if "memory" in controllers.split(","):
            tops, file = [root / "sys/fs/cgroup/memory"], "memory.oom_control"
        elif controllers == "":
            tops, file = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"], "memory.events"
        else:
            continue
        paths += [top / each / file for top in tops for each in (below, "")]
    return [*paths, root / "proc/vmstat"]


def is_out_of_memory(text: str, kills: int = 0) -> bool:
    """Whether a message of a model or of Triton means that there was too little memory.

    Either the message says so, or it says that a model's process died, and the kernel has killed more than `kills`
    processes for lack of memory.
    """
    return WORDS.search(text) is not None or (DIED.search(text) is not None and oom_kills() > kills)
