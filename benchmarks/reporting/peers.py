"""The report's section on peers: the loads at which a peer wins, all figures beside `serve`, and the starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.reporting.tables import (
    Spread,
    ask_name,
    at_once,
    good,
    inner_ratio,
    kinds,
    more,
    number,
    ratio,
    share,
    table,
    text,
    where,
)
from benchmarks.rig.points import Point


def peer_wins(points: Sequence[Point]) -> list[str]:
    """A line for each load at which a peer has more requests/s or a lower p99 than serve beside it."""
    mine, lines = good(points), []
    for peer in kinds(mine, "peer"):
        for rows in kinds(mine, "rows"):
            for concurrency in kinds(mine, "concurrency"):
                here = where(mine, peer=peer, rows=rows, concurrency=concurrency)
                load = f"{ask_name(rows)}, {at_once(concurrency)}"
                rate, slow = (inner_ratio(here, name, "serve") for name in ("requests_per_s", "p99_ms"))
                if rate and rate.median > 1:
                    lines.append(f"**{peer} beats serve at {load}**: {share(rate)} its requests/s{doubt(rate)}.")
                if slow and slow.median < 1:
                    lines.append(f"**{peer} has the lower p99 at {load}**: {share(slow)} that of serve{doubt(slow)}.")
    return lines


def more_requests(points: Sequence[Point]) -> str:
    """A sentence that names the loads at which a peer answers more requests/s than serve."""
    mine, sentences = good(points), []
    for peer in kinds(mine, "peer"):
        for rows in kinds(mine, "rows"):
            for concurrency in kinds(mine, "concurrency"):
                rate = over_serve(where(mine, peer=peer, rows=rows, concurrency=concurrency))
                if rate and rate.median > 1:
                    sentences.append(f"{peer}, {ask_name(rows)}, {at_once(concurrency)} ({number(rate.median)} ×)")
    if not mine:
        return ""
    return (
        f"A peer answers more requests/s than `serve` here: {'; '.join(sentences)}."
        if sentences
        else "No peer answers more."
    )


def doubt(found: Spread) -> str:
    """A remark if the rounds do not agree which of the two is better."""
    crossed = min(found.values) < 1 < max(found.values)
    return "; not in every round, so it may be chance" if crossed else ""


def start_wins(points: Sequence[Point]) -> list[str]:
    """A line for each peer that starts sooner or takes less memory than serve."""
    mine = good(points)
    ours = where(mine, peer="serve")
    lines = []
    unlike = ", with the models loaded that it is asked for, where serve has both of a recommender"
    for peer in kinds(mine, "peer"):
        for name, words in (("first_answer_s", "answers sooner after its start"), ("memory_mb", "takes less memory")):
            theirs = where(mine, peer=peer)
            part = ratio(theirs, ours, name) or inner_ratio(theirs, name, "serve")
            if peer != "serve" and part and part.median < 1:
                lines.append(f"**{peer} {words}**: {share(part)} what serve needs{unlike}{doubt(part)}.")
    return lines


def peers(points: Sequence[Point]) -> str:
    starts, mine = ([point for point in good(points) if point.section == name] for name in ("peer_start", "peers"))
    parts = [peers_sentence(mine)]
    for rows in kinds(mine, "rows"):
        here, concurrencies = where(mine, rows=rows), kinds(mine, "concurrency")
        lines = []
        for peer in kinds(here, "peer"):
            groups = [where(here, peer=peer, concurrency=c) for c in concurrencies]
            cells = [
                (text(group, "requests_per_s"), text(group, "serve.requests_per_s"), share(over_serve(group)))
                for group in groups
            ]
            lines.append([str(peer), *(cell for three in cells for cell in three)])
        head = [f"{what}, {at_once(c)}" for c in concurrencies for what in ("requests/s", "serve's", "of serve's")]
        parts.append(f"**{ask_name(rows)}**\n\n{table(['', *head], lines)}")
    if mine:
        parts.append(more(mine, "peer", "rows", "concurrency"))
    if starts:
        rows_ = [
            [
                str(peer), word(where(starts, peer=peer), "version"),
                *(text(where(starts, peer=peer), name) for name in ("first_answer_s", "memory_mb")),
                word(where(starts, peer=peer), "settings"),
            ]
            for peer in kinds(starts, "peer")
        ]  # fmt: skip
        head = ["", "version", "seconds to the first answer", "memory MB", "settings"]
        parts.append(f"**Start, memory and settings**\n\n{table(head, rows_, words=True)}")
    return "\n\n".join(part for part in parts if part)


def over_serve(points: Sequence[Point]) -> Spread:
    """Ratios of the requests/s to those of serve, round by round."""
    return inner_ratio(points, "requests_per_s", "serve")


def word(points: Sequence[Point], name: str) -> str:
    """The value of a figure that is text, or settings by name."""
    found = next((point.figures[name] for point in points if point.figures.get(name)), "")
    if isinstance(found, dict):
        return ", ".join(f"{key}={value}" for key, value in found.items())
    return str(found)


def peers_sentence(points: Sequence[Point]) -> str:
    groups: dict[tuple[Any, ...], list[Point]] = {}
    for point in points:
        groups.setdefault(tuple(point.key.get(name) for name in ("peer", "rows", "concurrency")), []).append(point)
    found = {key: part for key, group in groups.items() if (part := inner_ratio(group, "requests_per_s", "serve"))}
    if not found:
        return ""
    (near, best), (far, worst) = (pick(found.items(), key=lambda item: item[1].median) for pick in (max, min))
    near_text, far_text = (f"{peer} at {ask_name(rows)}, {at_once(c)}" for peer, rows, c in (near, far))
    return (
        f"Each peer answered right before or after serve in each round. Strongest: {near_text}, with "
        f"{share(best)} the requests/s of serve; weakest: {far_text}, with {share(worst)}."
    )
