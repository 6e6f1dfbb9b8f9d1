"""The most important figures, for report and README: `serve` beside Triton's own port and beside its peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.reporting.ladder import native_of, rungs_of, to_native
from benchmarks.reporting.peers import over_serve, peer_wins, start_wins
from benchmarks.reporting.tables import (
    NONE,
    TOP,
    TOP_GMF,
    Spread,
    ask_name,
    at_once,
    good,
    kinds,
    number,
    spread,
    table,
    where,
)
from benchmarks.rig.points import Point

CONCURRENCY = (1, 16)
# The rows of the README, one for each way to ask.
FRONT_PAGE = (
    ("1 pair", "serve, passed through"), ("100 pairs", "serve, JSON pairs"), (TOP, "serve, JSON"),
    (TOP_GMF, "serve, JSON"),
)  # fmt: skip
FORMS = ("serve, passed through", "serve, JSON pairs", "serve, JSON", "serve, JSON, all 100")


def headline(points: Sequence[Point], short: bool = False) -> str:
    """Two tables, empty if neither the ladder nor peers were measured.

    With `short`, for the README: medians only, a row for each ask, and the higher concurrency alone.
    """
    levels = CONCURRENCY[-1:] if short else CONCURRENCY

    def cell(found: Spread, unit: str = "") -> str:
        return NONE if not found else f"{number(found.median)}{unit}" if short else found.text(unit)

    ladder, peers = ([point for point in good(points) if point.section == name] for name in ("ladder", "peers"))
    parts, natives = [], dict[str, None]()
    rows = []
    for ask in kinds(ladder, "ask"):
        here = where(ladder, ask=ask)
        for rung in rungs_of(here):
            if rung not in FORMS or (short and (ask, rung) not in FRONT_PAGE):
                continue
            cells = []
            for concurrency in levels:
                mine = where(here, rung=rung, concurrency=concurrency)
                cells += [cell(spread(mine, "requests_per_s")), cell(spread(mine, "p50_ms"))]
                cells.append(cell(to_native(here, rung, concurrency), " ×"))
            rows.append([f"{ask_name(ask)}, {rung.removeprefix('serve, ')}", *cells])
            natives[native_of(here)] = None
    if rows:
        head = [f"{what}, {at_once(c)}" for c in levels for what in ("requests/s", "p50 ms", "of Triton's")]
        beside = " and ".join(name for name in natives if name)
        parts.append(
            f"`serve` beside Triton without it ({beside}), and its requests/s as a multiple of Triton's:\n\n"
            f"{table(['', *head], rows)}"
        )
    loads = [
        (many, concurrency) for many in kinds(peers, "rows") for concurrency in kinds(peers, "concurrency")
        if concurrency in levels
    ]  # fmt: skip
    rows = [
        [
            str(peer),
            *(cell(over_serve(where(peers, peer=peer, rows=many, concurrency=c)), " ×") for many, c in loads),
        ]
        for peer in kinds(peers, "peer")
    ]
    if rows:
        ranks = kinds(where(peers, rows=TOP), "peer")
        head = ["", *(f"{ask_name(many)}, {at_once(c)}" for many, c in loads)]
        ranking = f"; {' and '.join(ranks)} ranked the same catalogue with the same query module" if ranks else ""
        parts.append(
            f"Peers: their requests/s as a multiple of those of `serve`, measured beside it{ranking}:\n\n"
            f"{table(head, rows)}"
        )
    return "\n\n".join(parts)


def wins(points: Sequence[Point]) -> str:
    """Sentences on the loads at which a peer is better than serve, and on the peers without a figure."""
    starts, peers = ([point for point in points if point.section == name] for name in ("peer_start", "peers"))
    if not peers and not starts:
        return "No peer was measured in this run."
    lines = [*peer_wins(peers), *start_wins(starts)]
    loads = {tuple(point.key.get(name) for name in ("peer", "rows", "concurrency")) for point in good(peers)}
    gone = dict[str, list[str]]()
    for point in peers:
        peer, rows, concurrency = load = tuple(point.key.get(name) for name in ("peer", "rows", "concurrency"))
        at = f"{ask_name(rows)}, {at_once(concurrency)}"
        if load not in loads and at not in gone.setdefault(str(peer), []):
            gone[str(peer)].append(at)
    for peer in kinds([point for point in starts if point.error], "peer"):
        if not where(peers, peer=peer):
            gone[str(peer)] = ["all"]
    listed = "\n".join(f"- {line}" for line in lines)
    if not lines:
        listed = f"No peer wins at any of the {len(loads)} points measured." if loads else "No peer has a figure yet."
    without = "; ".join(f"{peer} ({' and '.join(at)})" for peer, at in gone.items())
    return listed + (f"\n\nWithout a figure, see what failed below: {without}." if gone else "")


def origin(settings: Mapping[str, Any], points: Sequence[Point]) -> str:
    """A sentence on the machine, the time, the commit and the number of rounds."""
    days = sorted({point.at[:10] for point in points})
    when = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else NONE
    rounds = settings.get("rounds")
    commits = ", ".join(dict.fromkeys(point.commit for point in points if point.commit))
    words = [
        f"{settings.get('processor', 'unknown processor')}, {settings.get('cores', '?')} cores, which load generator "
        "and servers share",
        f"measured {when}" + (f", commit {commits}" if commits else ""),
    ]
    return f"Medians of {rounds or 'all'} round{'' if rounds == 1 else 's'} on {'; '.join(words)}."
