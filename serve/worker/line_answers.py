"""Bodies with a record a line, of any size, answered in bounded memory: what a batch transform sends.

The answer is put aside until the whole body has come, for many clients read nothing before they have sent everything;
so a failure on the way is a status, and not half an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from tempfile import SpooledTemporaryFile

import orjson

from serve.errors import OutOfMemory, Unavailable
from serve.formats import kserve
from serve.formats import registry as codec
from serve.formats.json_format import Answer
from serve.formats.slices import LineSlices, Slice, SliceAnswers
from serve.http1.request import Headers, Request

# A shorter body is answered as a whole.
SHORT_BYTES = 65_536
# Of the answer; what is more lies in a file.
MEMORY_BYTES = 16 * 2**20
CHUNK = 262_144
# Failures of the service, not of a line: whoever sent the body shall send it again.
PASSING = frozenset((Unavailable.code, "overloaded"))

AnswerSlice = Callable[[codec.Decoded], Awaitable[list[Answer]]]


def lines_of(body: bytes, asked: codec.Format) -> codec.Format:
    """The format of a body that begins like this: JSON with a whole document on its first line, and more after it, is
    JSON Lines, whatever it is called, and KServe-v2 with its first document over several lines is JSON."""
    if asked not in (codec.JSON, codec.JSON_LINES) or (end := body.find(b"\n")) < 0 or body[end:].isspace():
        return asked
    first = body[:end].strip()
    whole = first.startswith(b"{") and first.endswith(b"}")
    if whole:
        try:
            orjson.loads(first)
        except orjson.JSONDecodeError:
            whole = False
    if whole:
        return codec.JSON_LINES
    return codec.JSON if kserve.PLAIN.match(body) else asked


async def answer_lines(
    request: Request, asked: codec.Format, wanted: codec.Format, limit: int, max_work: int, answer: AnswerSlice
) -> SpooledTemporaryFile[bytes]:
    """The answer to a body of at most `limit` bytes, in a file that is to be closed.

    Raises ServeError, ClientGone, or NotAcceptable for a format without room for many answers.
    """
    writer = SliceAnswers(wanted)
    request.count_unread_only()
    # Closed by the caller, or below.
    file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
    try:
        async for part in _slices(request, LineSlices(asked, max_work=max_work), limit):
            answers = await answer(part.decoded)
            for one in answers:
                if "error" in one and one["error"]["code"] in PASSING:
                    raise Unavailable(one["error"]["message"])
            file.write(writer.write(part, answers))
        file.write(writer.end())
    except OSError as error:
        file.close()
        raise OutOfMemory(
            f"there is no room for the answer: {error.strerror}; send the body in smaller parts"
        ) from error
    except BaseException:
        file.close()
        raise
    return file


async def _slices(request: Request, slices: LineSlices, limit: int) -> AsyncIterator[Slice]:
    async for chunk in request.stream(limit):
        for part in slices.feed(chunk):
            yield part
        await asyncio.sleep(0)  # a chunk of nothing but empty lines has no slice to wait for
    for part in slices.end():
        yield part


async def send_file(request: Request, headers: Headers, file: SpooledTemporaryFile[bytes]) -> None:
    """Answer with what is in a file. Raises ClientGone."""
    length = file.tell()
    file.seek(0)
    if length <= CHUNK:
        request.respond(200, headers, file.read())
        return
    request.cancel = True
    request.start(200, headers, length)
    while chunk := file.read(CHUNK):
        await request.write(chunk)
    request.end()
