from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.errors import OutOfMemory, Overloaded, ServeError, Unavailable
from serve.formats.json_format import Decoded
from serve.formats.registry import CSV, JSON_LINES, Format
from serve.recommend.asks import Answer
from serve.worker.line_answers import MEMORY_BYTES, answer_lines


async def parts(*bodies: bytes) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body


def answered(*bodies: bytes, answer: Answer, format: Format = CSV) -> bytes:
    """The answer to a body, every request of which gets the same answer."""

    async def run() -> bytes:
        async def each(decoded: Decoded) -> list[Answer]:
            return [answer for _ in decoded.requests]

        found = await answer_lines(parts(*bodies), format, format, 50_000, each)
        if isinstance(found, bytes):
            return found
        with found as file:
            file.seek(0)
            return file.read()

    return asyncio.run(run())


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to make a file longer, as it does when the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


LONG: Answer = {"recommendations": [{"item_id": "x" * 20_000, "score": 1.0}]}


def test_a_full_disk_is_503_and_unloads_no_model() -> None:
    """507 would make SageMaker unload other models of a multi-model endpoint."""
    body = b"u1\n" * (MEMORY_BYTES // 20_000 + 200)
    assert len(answered(body, answer=LONG)) > MEMORY_BYTES
    with files_of_at_most(MEMORY_BYTES), pytest.raises(Unavailable) as caught:
        answered(body, answer=LONG)
    assert caught.value.status == 503
    assert "does not fit on the server's temporary disk" in str(caught.value)
    assert "smaller parts" in str(caught.value)


def test_a_disk_that_is_full_at_the_last_byte_is_503_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("serve.worker.line_answers.MEMORY_BYTES", 1)
    body = b"u1\n" * 600  # two slices: the answer to one stays in memory
    size = len(answered(body, answer=LONG))
    with files_of_at_most(size - 1), pytest.raises(Unavailable):
        answered(body, answer=LONG)


@pytest.mark.parametrize("failure", [Unavailable, Overloaded, OutOfMemory])
def test_a_failure_of_the_service_is_the_status_of_the_whole_answer(failure: type[ServeError]) -> None:
    with pytest.raises(failure, match="not now") as caught:
        answered(b"u1\nu2\n", answer={"error": {"code": failure.code, "message": "not now"}})
    assert type(caught.value) is failure


def test_a_failure_of_a_line_stands_in_its_place() -> None:
    body = b'{"user_id": 1}\n{"user_id": 2}\n'
    answer: Answer = {"error": {"code": "model_failed", "message": "no"}}
    assert answered(body[:20], body[20:], answer=answer, format=JSON_LINES).count(b'"no"') == 2
