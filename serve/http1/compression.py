"""gzip and deflate: unpacking request bodies within a limit, and packing answers with gzip."""

from __future__ import annotations

import zlib

from serve.errors import BadRequest, BodyTooLarge, UnsupportedMediaType, show
from serve.http1.accept import GZIP_CODINGS

# A smaller answer travels in one network packet either way, so compressing it costs time and gains nothing.
MIN_GZIP_BYTES = 1400

GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW = 31  # this value makes zlib read and write gzip's header and checksum
CHUNK = 16_384
# Every member costs a new decompressor and a copy of the rest of its chunk, however few bytes it holds.
MAX_MEMBERS = 4096


def unpack(body: bytes, content_encoding: bytes, limit: int) -> bytes:
    """The body without its Content-Encoding, which is identity, gzip or deflate.

    Raises UnsupportedMediaType for another coding, BodyTooLarge once more than `limit` bytes come out, BadRequest if
    the body is not in that coding.
    """
    codings = [coding.strip() for coding in content_encoding.decode("latin-1").lower().split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return body
    if len(codings) == 1 and codings[0] in GZIP_CODINGS:
        return _inflate(body, "gzip", limit)
    if codings == ["deflate"]:
        return _inflate(body, "deflate", limit)
    stacked = "is more than one coding" if len(codings) > 1 else "is not known here"
    raise UnsupportedMediaType(
        f"Content-Encoding {show(', '.join(codings[:9]))} {stacked}; send the body with gzip once, or as it is"
    )


def _inflate(body: bytes, coding: str, limit: int) -> bytes:
    """Unpack all members of a gzip body, or the one of a deflate body.

    zlib is fed in chunks, because it copies the bytes behind a member, and there may be many members.
    """
    parts: list[bytes] = []
    size = position = members = 0
    if coding == "gzip":
        begins, window = body.startswith(GZIP_MAGIC), GZIP_WINDOW
    else:  # HTTP means zlib's form, and some callers send bare deflate; zlib's begins with a multiple of 31
        zlibs = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
        begins, window = body != b"", 15 if zlibs else -15
    while position < len(body) or not members:
        if not begins or (members and (coding != "gzip" or not body.startswith(GZIP_MAGIC, position))):
            wrong = (
                f"goes on with something else after {position:,} bytes of {coding}" if members else f"is not {coding}"
            )
            raise BadRequest(
                f"Content-Encoding is {coding}, and the body {wrong}; send {coding}, or leave the header out"
            )
        if members == MAX_MEMBERS:
            raise BadRequest(f"the body has more than {MAX_MEMBERS:,} gzip members; compress it in one piece")
        members += 1
        member = zlib.decompressobj(window)
        while not member.eof:
            chunk = body[position : position + CHUNK]
            if not chunk:
                raise BadRequest(f"the {coding} body ends too early, after {len(body):,} bytes; send all of it")
            try:
                # One byte more than the limit: a body that is too large differs from a body that just fits.
                part = member.decompress(chunk, limit + 1 - size)
            except zlib.error as error:
                raise BadRequest(f"the {coding} body is damaged: {error}; compress and send it again") from error
            size += len(part)
            if size > limit:
                raise BodyTooLarge(f"the body has more than {limit:,} bytes when unpacked; at most {limit:,} are taken")
            parts.append(part)
            position += len(chunk) - len(member.unused_data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def pack(body: bytes) -> bytes:
    """gzip at the quickest level; it contains no time of day, so equal answers are equal bytes."""
    made = packer()
    return made.compress(body) + made.flush()


def packer() -> zlib._Compress:
    """Compresses a body in parts: `compress` each, then `flush`."""
    return zlib.compressobj(1, zlib.DEFLATED, GZIP_WINDOW)
