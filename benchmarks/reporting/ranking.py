"""The report's tables of ranking whole catalogues: the ways to a user's best items, id files, Triton's own times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.reporting.tables import at_once, good, kinds, ratio, share, table, text, where
from benchmarks.rig.points import Point

SLOWEST = "every item"  # the way that others are compared with
IMPLICIT = "implicit, 1 thread"
# Figures of an id file, by their names in the table.
ID_FILE = {
    "file, MB": "file_mb", "opening, ms": "open_ms", "id to index, µs at p50": "index_p50_us",
    "id to index, µs at p99": "index_p99_us", "index to id, µs at p50": "raw_p50_us",
    "own memory before, MB": "own_before_mb", "own memory after opening, MB": "own_open_mb",
    "own memory after 100,000 look-ups, MB": "own_after_mb", "mapped from files before, MB": "mapped_before_mb",
    "mapped from files after 100,000 look-ups, MB (shared)": "mapped_after_mb",
}  # fmt: skip
DEVICE = {
    "in Triton": "triton_ms", "queue": "queue_ms", "input": "input_ms", "model": "model_ms", "output": "output_ms",
    "seen by the client": "client_ms",
}  # fmt: skip


def catalogue(points: Sequence[Point]) -> str:
    """A table for each concurrency."""
    return "\n\n".join(
        f"**{at_once(concurrency)}**\n\n{ways(where(good(points), concurrency=concurrency), SLOWEST)}"
        for concurrency in kinds(good(points), "concurrency")
    )


def implicit(points: Sequence[Point]) -> str:
    return ways(good(points), IMPLICIT)


def ways(points: Sequence[Point], base: str) -> str:
    """Each way's latency and requests/s, and the requests/s as a multiple of those of the way `base`."""
    rows = []
    for model in kinds(points, "model"):
        here = where(points, model=model)
        for way in kinds(here, "way"):
            mine = where(here, way=way)
            times = share(ratio(mine, where(here, way=base))) if way != base else ""
            cells = [text(mine, name) for name in ("p50_ms", "p99_ms", "requests_per_s")]
            rows.append([f"{model}: {way}", *cells, times])
    return table(["", "p50 ms", "p99 ms", "users/s", f"of {base}"], rows)


def ids(points: Sequence[Point]) -> str:
    mine = good(points)
    counts = kinds(mine, "ids")
    rows = [[name, *(text(where(mine, ids=count), figure) for count in counts)] for name, figure in ID_FILE.items()]
    return table(["", *(f"{count:,} ids" for count in counts)], rows)


def device(points: Sequence[Point]) -> str:
    mine = good(points)
    one, full = (where(mine, load=load) for load in ("one user", "full batches"))
    rows = [[name_of(key), *(text(group, figure) for figure in DEVICE.values())] for key, group in grouped(one)]
    batches = [[name_of(key), text(group, "batch"), text(group, "users_per_s")] for key, group in grouped(full)]
    tables = (
        (f"**One user, ms**\n\n{table(['', *DEVICE], rows)}", rows),
        (f"**Full batches, two at a time**\n\n{table(['', 'users a batch', 'users/s'], batches)}", batches),
    )
    return "\n\n".join(page for page, lines in tables if lines)


def grouped(points: Sequence[Point]) -> list[tuple[tuple[Any, ...], list[Point]]]:
    """The points by device and number of items."""
    keys = dict.fromkeys((point.key.get("device"), point.key.get("items")) for point in points)
    return [(key, where(points, device=key[0], items=key[1])) for key in keys]


def name_of(key: tuple[Any, ...]) -> str:
    return f"{key[0]}, {key[1]:,} items" if isinstance(key[1], int) else str(key[0])
