"""Answers bodies with one record a line, of any size, in bounded memory.

The answer is stored until the whole body has come, because many clients read nothing before they have sent everything.
So a failure on the way gives the whole answer its status, and no caller gets half an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from tempfile import SpooledTemporaryFile

from serve.errors import OutOfMemory, Overloaded, ServeError, Unavailable
from serve.formats.json_format import Decoded
from serve.formats.registry import Format
from serve.formats.slice_answers import SliceAnswers
from serve.formats.slices import LineSlices, Slice
from serve.recommend.asks import Answer

# A longer answer lies in a file on disk.
MEMORY_BYTES = 16 * 2**20
# Failures of the service and not of a line: the caller has to send the body again.
FAILURES: dict[str, type[ServeError]] = {error.code: error for error in (Unavailable, Overloaded, OutOfMemory)}

AnswerSlice = Callable[[Decoded], Awaitable[list[Answer]]]


async def answer_lines(
    parts: AsyncIterator[bytes], asked: Format, wanted: Format, max_work: int, answer: AnswerSlice
) -> SpooledTemporaryFile[bytes]:
    """The answer to a body of format `asked` in format `wanted`, in a file that the caller has to close.

    Raises ServeError, and what reading the parts raises.
    """
    writer = SliceAnswers(wanted)
    file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  the caller closes it
    try:
        async for part in _slices(parts, LineSlices(asked, max_work=max_work)):
            answers = await answer(part.decoded)
            for one in answers:
                if "error" in one and (failure := FAILURES.get(one["error"]["code"])) is not None:
                    raise failure(one["error"]["message"])
            _write(file, writer.write(part, answers))
        _write(file, writer.end(), whole=True)
    except BaseException:
        with suppress(OSError):  # closing writes what is left, and the disk is full
            file.close()
        raise
    return file


async def _slices(parts: AsyncIterator[bytes], slices: LineSlices) -> AsyncIterator[Slice]:
    """The slices of a body. It lets other tasks run after each, because slices without a good line wait for nothing."""
    async for part in parts:
        for each in slices.feed(part):
            yield each
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    for each in slices.end():
        yield each
        await asyncio.sleep(0)


def _write(file: SpooledTemporaryFile[bytes], data: bytes, whole: bool = False) -> None:
    """Raises Unavailable if the disk is full. 507 would be wrong: a platform would unload other models for it."""
    try:
        file.write(data)
        if whole:  # a full disk must show here, while the answer can still have another status
            file.flush()
    except OSError as error:
        raise Unavailable(
            f"the answer of {file.tell():,} bytes or more does not fit on the server's temporary disk "
            f"({error.strerror}); send the body in smaller parts"
        ) from error
