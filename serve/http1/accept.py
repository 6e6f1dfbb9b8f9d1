"""How Accept and Accept-Encoding weigh the choices they list."""

from __future__ import annotations

GZIP_CODINGS = ("gzip", "x-gzip")
# No client lists its choices in more than a few hundred bytes; the rest of a longer header is not read.
MAX_HEADER = 8192


def accepts_gzip(accept_encoding: bytes | None) -> bool:
    """Whether Accept-Encoding wants gzip; without that header an answer is not compressed."""
    if accept_encoding is None:
        return False
    weight = weights(accept_encoding)
    named = [weight[coding] for coding in GZIP_CODINGS if coding in weight]
    return max(named) > 0 if named else weight.get("*", 0.0) > 0


def weights(header: bytes) -> dict[str, float]:
    """The choices that Accept or Accept-Encoding lists, in lower case and in order, each with its q.

    An entry whose q is no number from 0 to 1 is ignored, and so is an entry that was listed before.
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
