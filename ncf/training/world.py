"""Several processes that train one model with torch.distributed, started by torchrun.

Processes on CPUs are connected by Gloo, those on GPUs by NCCL. Every process has the whole model and a part of the
positives; DistributedDataParallel averages the gradients in each step. The first process measures, saves and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from ncf.errors import InputError, LostProcessError

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)  # most time that the others wait while the first process reads or evaluates


@dataclass(frozen=True)
class World:
    """The rank of this process, 0..size-1, among `size` processes."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, value: T) -> T:
        """The value of the first process, in every process."""
        if self.size == 1:
            return value
        shared = [value]
        dist.broadcast_object_list(shared, 0)
        return shared[0]


def world_size() -> int:
    """How many processes torchrun started for this training; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """Context manager: connect to the other processes that torchrun started (by RANK, WORLD_SIZE and so on), if any.

    Raises LostProcessError if the connection to the others is lost. What is left of the connection stays then, because
    its threads may throw while it is taken down, which aborts the process.
    """
    size = world_size()
    if size == 1:
        yield World()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"cannot join {size} processes: {str(error).splitlines()[0]}") from error
    lost = False
    try:
        yield World(dist.get_rank(), size)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not _is_lost(error):
            raise
        lost = True
        raise LostProcessError(
            f"process {dist.get_rank()} of {size} lost another process and ends: {str(error).splitlines()[0][:200]}"
        ) from error
    finally:
        if not lost:
            dist.destroy_process_group()


def _is_lost(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in ("connection", "gloo", "nccl", "peer"))
