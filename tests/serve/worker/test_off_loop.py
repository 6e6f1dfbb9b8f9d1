"""Large bodies are packed, unpacked, read and written in a thread, and the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serve.formats import kserve
from serve.http1 import compression
from serve.worker.off_loop import LARGE_BYTES, off_loop
from tests.support.one_worker import OneWorker, request_bytes

NAMES = {"compression.unpack": compression, "kserve.is_plain": kserve}


def test_only_large_work_takes_a_thread() -> None:
    async def idents() -> tuple[int, int]:
        return await off_loop(LARGE_BYTES, threading.get_ident), await off_loop(LARGE_BYTES + 1, threading.get_ident)

    small, large = asyncio.run(idents())
    assert (small == threading.get_ident(), large == threading.get_ident()) == (True, False)


def test_the_event_loop_goes_on_while_a_body_is_packed() -> None:
    body = b"".join(b"%d," % (number * 7919) for number in range(1_000_000))

    async def turns() -> int:
        packing = asyncio.ensure_future(off_loop(len(body), compression.pack, body))
        count = 0
        while not packing.done():
            await asyncio.sleep(0)
            count += 1
        return count

    assert asyncio.run(turns()) > 10


@contextmanager
def threads_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, set[bool]]]:
    """For each of the functions: whether it ran on this thread."""
    found: dict[str, set[bool]] = {name: set() for name in NAMES}

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            found[name].add(threading.current_thread() is threading.main_thread())
            return function(*arguments)

        return call

    for name, module in NAMES.items():
        function = name.partition(".")[2]
        monkeypatch.setattr(module, function, watched(name, getattr(module, function)))
    yield found


@pytest.mark.parametrize(("values", "on_loop"), [(10, True), (200_000, False)])
def test_a_worker_reads_and_writes_large_bodies_off_its_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: int, on_loop: bool
) -> None:
    tensor = {"name": "X", "shape": [values], "datatype": "INT32", "data": [10] * values}
    document = {"parameters": {"fill": "x" * 2000}, "inputs": [tensor]}
    head = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip", "X-Amzn-SageMaker-Custom-Attributes": "model=plain"}

    async def run() -> tuple[int, Any, bytes]:
        worker = OneWorker(tmp_path)
        await worker.start()
        try:
            packed = gzip.compress(json.dumps(document).encode())
            return await worker.exchange([request_bytes(packed, head)])
        finally:
            await worker.stop()

    with threads_of(monkeypatch) as found:
        status, _, _ = asyncio.run(run())
    assert status == 200
    assert found["compression.unpack"] == found["kserve.is_plain"] == {on_loop}
