"""Reads a body with one record a line in one go, for tests that look at the requests and not at where it is cut."""

from __future__ import annotations

from typing import Any

from serve.errors import ServeError
from serve.formats.registry import Format
from serve.formats.slices import LineSlices


def requests_of(format: Format, body: bytes) -> list[Any]:
    """A request or an error for every line; rows of user_id and item_id are a pair each."""
    slices = LineSlices(format, 10**9, 10**9)
    found: list[Any] = []
    for part in (*slices.feed(body), *slices.end()):
        if part.faults is None:
            found += part.decoded.requests
            continue
        [request] = part.decoded.requests
        pairs = (
            ()
            if isinstance(request, ServeError)
            else zip(*map(request["pairs"].get, ("user_id", "item_id")), strict=True)
        )
        good = iter(pairs)
        found += [next(good) if fault is None else fault for fault in part.faults]
    return found
