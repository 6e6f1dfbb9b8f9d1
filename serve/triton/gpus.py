"""How many GPUs Triton can use here."""

from __future__ import annotations

from pathlib import Path

DEVICES = Path("/dev")
# A card has a numbered file; nvidiactl and nvidia-uvm are there for a container that gets none of a machine's cards,
# too. Linux on Windows (dxg) and Jetson boards (nvhost*, nvmap) have files that say there is a GPU, but not how many.
NUMBERED, OTHERS = "nvidia[0-9]*", ("dxg", "nvhost*", "nvmap")


def count_gpus() -> int:
    """The number of GPUs, by the device files there are; 1 where the files do not tell the number."""
    return len([*DEVICES.glob(NUMBERED)]) or int(any(any(DEVICES.glob(name)) for name in OTHERS))
