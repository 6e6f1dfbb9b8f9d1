"""gzip on the way in, bounded, and on the way out; and how headers weigh their choices."""

from __future__ import annotations

import zlib

from serve.errors import BadRequest, BodyTooLarge, UnsupportedMediaType, show

# A smaller answer travels in one network packet either way, so compressing it costs time and gains nothing.
MIN_GZIP_BYTES = 1400

GZIP_CODINGS = ("gzip", "x-gzip")
GZIP_WINDOW = 31  # zlib's way to ask for gzip's header and checksum
CHUNK = 16_384
# Every member costs a new decompressor and a copy of what is left of its chunk, however little it holds.
MAX_MEMBERS = 4096
# No client lists its choices in more than a few hundred bytes; the rest of a longer header is not read.
MAX_HEADER = 8192


def unpack(body: bytes, content_encoding: bytes | None, limit: int) -> bytes:
    """The body without its Content-Encoding: none, identity or gzip.

    Raises UnsupportedMediaType for another coding, BodyTooLarge once more than `limit` bytes come out, BadRequest for
    what is no gzip.
    """
    if content_encoding is None:
        return body
    codings = [coding.strip() for coding in content_encoding.decode("latin-1").lower().split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not codings:
        return body
    if len(codings) == 1 and codings[0] in GZIP_CODINGS:
        return _gunzip(body, limit)
    stacked = "is more than one coding" if len(codings) > 1 else "is not known here"
    raise UnsupportedMediaType(
        f"Content-Encoding {show(', '.join(codings[:9]))} {stacked}; send the body with gzip once, or as it is"
    )


def _gunzip(body: bytes, limit: int) -> bytes:
    """All members of a gzip body. It is fed in chunks, because what follows a member is copied to find the next."""
    parts: list[bytes] = []
    size = position = members = 0
    while position < len(body) or not members:
        if body[position : position + 2] != b"\x1f\x8b":
            what = f"goes on with something else after {position:,} bytes of gzip" if members else "is not gzip"
            raise BadRequest(f"Content-Encoding is gzip, and the body {what}; send gzip, or leave the header out")
        if members == MAX_MEMBERS:
            raise BadRequest(f"the body has more than {MAX_MEMBERS:,} gzip members; compress it in one piece")
        members += 1
        member = zlib.decompressobj(GZIP_WINDOW)
        while not member.eof:
            chunk = body[position : position + CHUNK]
            if not chunk:
                raise BadRequest(f"the gzip body ends too early, after {len(body):,} bytes; send all of it")
            try:
                # One byte more than may come out tells a body that is too large from one that just fits.
                part = member.decompress(chunk, limit + 1 - size)
            except zlib.error as error:
                raise BadRequest(f"the gzip body is damaged: {error}; compress and send it again") from error
            size += len(part)
            if size > limit:
                raise BodyTooLarge(f"the body has more than {limit:,} bytes when unpacked; at most {limit:,} are taken")
            parts.append(part)
            position += len(chunk) - len(member.unused_data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def pack(body: bytes) -> bytes:
    """gzip at the quickest level; no time of day in it, so equal answers are equal bytes."""
    made = packer()
    return made.compress(body) + made.flush()


def packer() -> zlib._Compress:
    """Compresses a body in parts: `compress` each, then `flush`."""
    return zlib.compressobj(1, zlib.DEFLATED, GZIP_WINDOW)


def accepts_gzip(accept_encoding: bytes | None) -> bool:
    """Whether Accept-Encoding wants gzip. Without that header the answer stays as it is."""
    if accept_encoding is None:
        return False
    weight = weights(accept_encoding)
    named = [weight[coding] for coding in GZIP_CODINGS if coding in weight]
    return max(named) > 0 if named else weight.get("*", 0.0) > 0


def weights(header: bytes) -> dict[str, float]:
    """What Accept or Accept-Encoding lists, in lower case and in order, each with its q; of repeats the first counts.

    An entry whose q is no number from 0 to 1 is passed over, as if it had not been sent.
    """
    found: dict[str, float] = {}
    text = header.decode("latin-1").lower()
    entries = text.split(",") if len(text) <= MAX_HEADER else text[:MAX_HEADER].split(",")[:-1]
    for entry in entries:
        choice, *parameters = entry.split(";")
        if choice := choice.strip():
            try:
                q = next((float(p.partition("=")[2]) for p in parameters if p.partition("=")[0].strip() == "q"), 1.0)
            except ValueError:
                continue
            if 0.0 <= q <= 1.0:
                found.setdefault(choice, q)
    return found
