"""Runs slow work on a large body in a thread, so that /ping and other requests need not wait for all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Handing work to a thread takes about 0.1 ms. Reading, writing or packing this many bytes takes a few times as long.
LARGE_BYTES = 262_144


async def off_loop(size: int, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The result of `work`, which runs in a thread if its `size` is more than LARGE_BYTES.

    zlib releases the interpreter's lock while it works. orjson does not, but the event loop gets its turn between one
    call of orjson and the next.
    """
    if size <= LARGE_BYTES:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)
