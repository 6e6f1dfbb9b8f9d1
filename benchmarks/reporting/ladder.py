"""The report's section on the ladder: `serve` beside Triton and the bare module, in a sentence and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.reporting.tables import (
    NONE,
    TOP,
    TOP_GMF,
    Spread,
    ask_name,
    at_once,
    good,
    kinds,
    more,
    number,
    ratio,
    share,
    spread,
    table,
    text,
    where,
)
from benchmarks.rig.points import Point

TOP_RUNGS = ("serve, JSON", "serve, JSON, all 100")  # Triton itself always answers with all 100 items
NATIVE = ("Triton's SageMaker port", "Triton HTTP")  # serve is compared with the first that answers an ask
RUNGS = (
    "in process", "Triton gRPC", "Triton HTTP, binary", "Triton HTTP", "Triton's SageMaker port",
    "serve, passed through", "serve, JSON pairs", "serve, JSON", "serve, JSON, all 100", "serve, CSV",
)  # fmt: skip
PAIR_RUNGS = tuple(rung for rung in RUNGS if rung not in TOP_RUNGS)
EXPECTED = {TOP: (*RUNGS[:4], *TOP_RUNGS), TOP_GMF: ("in process", "Triton HTTP", TOP_RUNGS[0])}


def rungs_of(points: Iterable[Point]) -> list[str]:
    found = [str(rung) for rung in kinds(points, "rung")]
    return sorted(found, key=lambda rung: RUNGS.index(rung) if rung in RUNGS else len(RUNGS))


def native_of(points: Sequence[Point]) -> str:
    """The rung that serve is compared with; empty if it was not measured."""
    there = rungs_of(points)
    return next((rung for rung in NATIVE if rung in there), "")


def to_native(points: Sequence[Point], rung: str, concurrency: Any) -> Spread:
    """Ratios of the requests/s of a rung and of Triton, round by round."""
    native = native_of(points)
    return ratio(where(points, rung=rung, concurrency=concurrency), where(points, rung=native, concurrency=concurrency))


def ladder(points: Sequence[Point]) -> str:
    mine = good(points)
    parts = []
    for ask in kinds(mine, "ask"):
        here = where(mine, ask=ask)
        native, concurrencies = native_of(here), kinds(here, "concurrency")
        rows = [
            [
                rung,
                text(where(here, rung=rung, concurrency=1), "p50_ms"),
                *(text(where(here, rung=rung, concurrency=c), "requests_per_s") for c in concurrencies),
                *(share(to_native(here, rung, c)) if native else NONE for c in (1, 16)),
            ]
            for rung in rungs_of(here)
        ]
        head = ["", "p50 ms, 1 at once", *(f"requests/s, {at_once(c)}" for c in concurrencies)]
        head += [f"of {native or 'Triton'}, {at_once(c)}" for c in (1, 16)]
        missing = [rung for rung in EXPECTED.get(ask, PAIR_RUNGS) if rung not in rungs_of(here)]
        gone = f"\n\nNot measured: {', '.join(missing)}." if missing else ""
        parts.append(f"**{ask_name(ask)}**: {ladder_sentence(here, native)}\n\n{table(head, rows)}{gone}")
        parts.append(more(here, "rung", "concurrency"))
    tools = kinds_of_figure(mine, "tool")
    if len(tools) > 1:
        listed = "; ".join(f"{tool}: {', '.join(rungs)}" for tool, rungs in tools.items())
        parts.append(f"Each tool ({listed}) makes load in its own way: compare closely only figures of the same tool.")
    return "\n\n".join(parts)


def kinds_of_figure(points: Iterable[Point], name: str) -> dict[str, list[str]]:
    """The rungs by the value of a figure that is a word."""
    found: dict[str, list[str]] = {}
    for point in points:
        rungs = found.setdefault(str(point.figures[name]), []) if name in point.figures else []
        if point.key.get("rung") not in rungs:
            rungs.append(str(point.key.get("rung")))
    return found


def ladder_sentence(points: Sequence[Point], native: str) -> str:
    """A sentence on the cost of serve: the ms that it adds at 1 at once, and its share of Triton's requests/s at 16."""
    sentences = []
    for rung in rungs_of(points):
        if not rung.startswith("serve") or not native:
            continue
        mine, theirs = (spread(where(points, rung=name, concurrency=1), "p50_ms") for name in (rung, native))
        part = to_native(points, rung, 16)
        added = mine.median - theirs.median if mine and theirs else None
        words = []
        if added is not None:
            words.append(f"{'adds' if added >= 0 else 'saves'} {number(abs(added))} ms at 1 at once")
        words += [f"has {number(part.median)} × the requests/s at 16 at once"] if part else []
        if words:
            sentences.append(f"“{rung}” {' and '.join(words)}")
    return f"beside {native}, {'; '.join(sentences)}." if sentences else "there is nothing to compare serve with yet."
