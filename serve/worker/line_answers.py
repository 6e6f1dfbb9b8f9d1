"""Answers bodies with one record a line, of any size, in bounded memory.

The answer is kept until the whole body has come, because many clients read nothing before they have sent everything.
So a failure on the way gives the whole answer its status, and no caller gets half an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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
) -> bytes | SpooledTemporaryFile[bytes]:
    """The answer to a body of format `asked` in format `wanted`: of more than one slice in a file, which the caller has
    to close.

    Raises ServeError, and what reading the parts raises.
    """
    slices = LineSlices(asked, max_work=max_work)
    written = _Written(SliceAnswers(wanted), answer)
    first = True
    try:
        async for part in parts:
            if not first:
                await asyncio.sleep(0)  # a body without the end of a line waits for nothing
            first = False
            await written.add(slices.feed(part))
        await written.add(slices.end())
        return written.end()
    except BaseException:
        written.close()
        raise


class _Written:
    """The answers that are written so far."""

    def __init__(self, writer: SliceAnswers, answer: AnswerSlice) -> None:
        self._writer = writer
        self._answer = answer
        self._first: bytes | None = None  # the answer to the first slice: most bodies have one
        self._file: SpooledTemporaryFile[bytes] | None = None

    async def add(self, slices: Iterator[Slice]) -> None:
        """Answer slices. It lets other tasks run before each, because slices without a good line wait for nothing."""
        for part in slices:
            if self._first is not None:
                await asyncio.sleep(0)
            answers = await self._answer(part.decoded)
            for one in answers:
                if "error" in one and (failure := FAILURES.get(one["error"]["code"])) is not None:
                    raise failure(one["error"]["message"])
            self._write(self._writer.write(part, answers))

    def _write(self, data: bytes) -> None:
        if self._first is None:
            self._first = data
            return
        if self._file is None:
            self._file = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  the caller closes it
            self._to_file(self._file, self._first)
        self._to_file(self._file, data)

    def end(self) -> bytes | SpooledTemporaryFile[bytes]:
        """The whole answer. Raises Unavailable if the disk is full."""
        if self._file is None:
            return (self._first or b"") + self._writer.end()
        self._to_file(self._file, self._writer.end(), whole=True)
        return self._file

    def close(self) -> None:
        """Nobody wants the answer."""
        if self._file is not None:
            with suppress(OSError):  # closing writes what is left, and the disk is full
                self._file.close()

    @staticmethod
    def _to_file(file: SpooledTemporaryFile[bytes], data: bytes, whole: bool = False) -> None:
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
