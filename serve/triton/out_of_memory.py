"""Whether something failed for want of memory, which a multi-model endpoint answers with 507.

SageMaker unloads other models after a 507 and tries again; after any other status it does not.
"""

from __future__ import annotations

import re
from pathlib import Path

# What Triton's own SageMaker endpoint looks for, then the words of the C and C++ runtimes, PyTorch and Triton itself.
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
    """How many processes of this container the kernel has killed for want of memory; 0 where it does not say."""
    for path in _counters(root):
        try:
            found = COUNTED.search(path.read_text())
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


def _counters(root: Path) -> list[Path]:
    """The files that may have the count, the nearest first.

    A container may see the path its cgroup has on the host, and its cgroup mounted as if it were the topmost.
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
    """Whether a message of a model's or of Triton's says that there was too little memory, of whatever kind; or that a
    process has died, and the kernel has killed more than `kills` for want of memory."""
    return WORDS.search(text) is not None or (DIED.search(text) is not None and oom_kills() > kills)
