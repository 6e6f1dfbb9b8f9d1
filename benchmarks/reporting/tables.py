"""Points as text: medians with their spread, ratios by round, Markdown tables; and points as flat frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import orjson
import polars as pl

from benchmarks.rig.points import Point

BUSY = 0.25  # cores that other processes may use before a section gets a warning
NONE = "–"
TOP, TOP_GMF = "top 10", "top 10, GMF"  # the former asks the model of all other asks, which is a NeuMF
RANKING = ("query", "topk")  # models whose samples are users, not pairs; "topk" in points of older runs
DETAIL = {
    "requests/s": "requests_per_s", "rows/s": "rows_per_s", "p50 ms": "p50_ms", "p95 ms": "p95_ms", "p99 ms": "p99_ms",
    "CPU µs a request": "cpu_us", "memory MB": "memory_mb",
}  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """A figure in several rounds, in short its median, its smallest and its largest value."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    def text(self, unit: str = "") -> str:
        """`12,300 (11,900–12,800)`; only the median if all rounds are equal."""
        middle, low, high = (number(value) for value in (self.median, min(self.values), max(self.values)))
        return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low}–{high})"

    def __bool__(self) -> bool:
        return bool(self.values)


def number(value: float) -> str:
    """The number with three significant digits and commas between thousands; an int below 1,000 is not rounded."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if isinstance(value, int) and abs(value) < 1000:
        return str(value)
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def at_once(concurrency: Any) -> str:
    return f"{concurrency} at once"


def ask_name(rows: Any) -> str:
    """The size of a request in words; an ask that is not a number of pairs has a name already."""
    if isinstance(rows, int):
        return f"{rows} pair{'' if rows == 1 else 's'}"
    return f"{TOP}, NeuMF" if rows == TOP else str(rows)


def figure(point: Point, name: str) -> float | None:
    """A figure by its name, an inner one as `serve.p50_ms`.

    Of a figure by role it is the sum of all roles, of a list the median; None if the point has no such number.
    """
    found: Any = point.figures
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, dict):
        found = sum(found.values()) if found else None
    if isinstance(found, list):
        numbers = [value for value in found if isinstance(value, int | float)]
        found = median(numbers) if numbers else None
    return found if isinstance(found, int | float) and math.isfinite(found) else None


def good(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if not point.error]


def last(points: Iterable[Point]) -> list[Point]:
    """The points; where several of a section have the same key, the last one."""
    named = {(point.section, orjson.dumps(point.key, option=orjson.OPT_SORT_KEYS)): point for point in points}
    return list(named.values())


def where(points: Iterable[Point], **key: Any) -> list[Point]:
    return [point for point in points if all(point.key.get(name) == value for name, value in key.items())]


def kinds(points: Iterable[Point], name: str) -> list[Any]:
    """The values of a part of the key: numbers in ascending order, then other values in the order of measurement."""
    found = list(dict.fromkeys(point.key[name] for point in points if name in point.key))
    numbers = sorted(value for value in found if not isinstance(value, str))
    return [*numbers, *(value for value in found if isinstance(value, str))]


def spread(points: Iterable[Point], name: str) -> Spread:
    return Spread(tuple(value for point in points if (value := figure(point, name)) is not None))


def text(points: Iterable[Point], name: str) -> str:
    found = spread(points, name)
    return found.text() if found else NONE


def ratio(above: Iterable[Point], below: Iterable[Point], name: str = "requests_per_s") -> Spread:
    """The ratios of a figure of two groups, round by round; rounds that only one group has are left out."""
    base = {point.key.get("round"): figure(point, name) for point in below}
    pairs = [(figure(point, name), base.get(point.key.get("round"))) for point in above]
    return Spread(tuple(mine / other for mine, other in pairs if mine is not None and other))


def inner_ratio(points: Iterable[Point], name: str, inner: str) -> Spread:
    """The ratios of a figure and the figure of that name in `inner`, which was measured in the same round."""
    pairs = [(figure(point, name), figure(point, f"{inner}.{name}")) for point in points]
    return Spread(tuple(mine / other for mine, other in pairs if mine is not None and other))


def share(found: Spread) -> str:
    return found.text(" ×") if found else NONE


def busy(points: Iterable[Point]) -> str:
    """A warning if other processes kept cores busy; empty if the machine was quiet."""
    others = spread(points, "others")
    if not others or others.median <= BUSY:
        return ""
    return (
        f"> **The machine was busy**: unrelated work took {others.text()} cores while this was measured. "
        "Ratios within a round are still valid; absolute figures are worse than on a quiet machine."
    )


def failures(points: Iterable[Point], expected: str = "") -> list[str]:
    """A line for each case that failed, was unstable, or was answered with errors; rounds with one fault share a line.

    `expected` is a status that the section expects, and that is therefore not a fault.
    """
    found: dict[tuple[str, str], int] = {}
    for point in points:
        codes = point.figures.get("errors") or {}
        errors = [f"{code} × {number(n)}" for code, n in codes.items() if n and code != expected]
        fault = one_line(point.error) or (f"answered with {', '.join(errors)}" if errors else "")
        if fault:
            name = ", ".join(
                f"{part.replace('_', ' ')} {value}" for part, value in point.key.items() if part != "round"
            )
            found[name, fault] = found.get((name, fault), 0) + 1
    return [f"{name}: {fault}{f' ({n} rounds)' if n > 1 else ''}" for (name, fault), n in found.items()]


def one_line(message: str) -> str:
    return " ".join(message.split())


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False) -> str:
    """A Markdown table without its empty columns; columns after the first are aligned as numbers unless `words`."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    kept = [place for place in range(len(head)) if place == 0 or any(row[place] not in (NONE, "") for row in rows)]
    lines = [[head[place] for place in kept], ["---" if place == 0 or words else "---:" for place in kept]]
    lines += [[row[place] for place in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def more(points: Sequence[Point], *names: str) -> str:
    """A collapsed table of latency, CPU time and memory; a row for each combination of the key's parts `names`."""
    groups: dict[tuple[Any, ...], list[Point]] = {}
    for point in points:
        groups.setdefault(tuple(point.key.get(name, "") for name in names), []).append(point)
    rows = [
        [", ".join(name_of(name, value) for name, value in zip(names, key, strict=True))]
        + [text(group, figure_name) for figure_name in DETAIL.values()]
        for key, group in groups.items()
    ]
    return details("Latency, rows/s, CPU time and memory", table(["", *DETAIL], rows))


def name_of(name: str, value: Any) -> str:
    words = {"concurrency": at_once, "rows": ask_name, "batch": lambda batch: f"batch {batch}"}
    return words[name](value) if name in words else str(value)


def details(summary: str, body: str) -> str:
    """A part that GitHub shows collapsed."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def flat(points: Iterable[Point]) -> pl.DataFrame:
    """A row for each point: parts of the key, figures (by role as `memory_mb.front`), error, command, commit, time."""
    rows = []
    for point in points:
        row: dict[str, Any] = dict(point.key)
        for name, value in _leaves(point.figures):
            row[f"figure.{name}" if name in point.key else name] = value
        rows.append(row | {"error": point.error, "command": point.command, "commit": point.commit, "at": point.at})
    ends = ("error", "command", "commit", "at")
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ends]
    columns = {name: [row.get(name) for row in rows] for name in (*names, *ends)}
    return pl.DataFrame({name: _one_type(values) for name, values in columns.items()})


def _leaves(figures: dict[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{name}.")
        elif isinstance(value, list):
            yield before + name, ";".join(map(str, value))
        else:
            yield before + name, value


def _one_type(values: list[Any]) -> list[Any]:
    types = {type(value) for value in values if value is not None}
    if types <= {int, float}:
        return [None if value is None else float(value) for value in values] if float in types else values
    return values if len(types) < 2 else [None if value is None else str(value) for value in values]
