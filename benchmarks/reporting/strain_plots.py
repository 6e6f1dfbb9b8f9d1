"""The plots of overload, minutes of load, and many models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.reporting.plots import GREY, INK, MARKERS, SERIES, legend, plain, plain_log, sheet
from benchmarks.reporting.strain import of_models
from benchmarks.reporting.tables import Spread, figure, good, kinds, number, spread, where
from benchmarks.rig.points import Point

ROLES = {"front": SERIES[0], "tritonserver": SERIES[1], "model": SERIES[2]}


def saturation(points: Sequence[Point]) -> Figure | None:
    """The accepted over the offered rate, and the latency of accepted and of refused requests."""
    mine = [point for point in good(points) if figure(point, "offered_per_s") and figure(point, "accepted_per_s")]
    limits = kinds(mine, "max_in_flight") or [None]
    if not mine:
        return None
    drawn, panels = sheet(1, 2, 3.3)
    left, right = panels[0]
    for n, limit in enumerate(limits):
        line = [point for point in mine if point.key.get("max_in_flight") == limit]
        line.sort(key=lambda point: figure(point, "offered_per_s") or 0)
        style: dict[str, Any] = {"color": SERIES[n % len(SERIES)], "marker": MARKERS[n % len(MARKERS)]}
        name = f"at most {limit} in flight" if limit is not None else "accepted"
        trace(left, line, "accepted_per_s", label=name, **style)
        trace(right, line, "p99_ms", **style)
        trace(right, line, "refused_p99_ms", linestyle=":", **style | {"marker": "x"})
    most = max(figure(point, "offered_per_s") or 0 for point in mine)
    least = min(figure(point, "offered_per_s") or 0 for point in mine)
    top = max(figure(point, "accepted_per_s") or 0 for point in mine) * 1.25
    left.plot([0, min(most, top)], [0, min(most, top)], color=GREY, linewidth=1, zorder=1)
    corner = min(most, top) * 0.96
    left.annotate("all that is offered", (corner, corner), (6, 0), textcoords="offset points", va="center", fontsize=8)
    left.set_ylim(0, top)
    left.set_xlim(0, most * 1.04)
    left.set_title("requests/s accepted")
    right.set_title("p99 in ms (dotted: of the refused)")
    right.set_xlim(min(0.0, least), most * 1.04)
    if any(figure(point, "p99_ms") for point in mine):
        plain_log(right, "y")
    for axes in (left, right):
        axes.set_xlabel("requests/s offered")
        axes.xaxis.set_major_formatter(plain())
        axes.xaxis.set_major_locator(MaxNLocator(6))
    left.yaxis.set_major_formatter(plain())
    legend(drawn, left.get_legend_handles_labels()[0])
    return drawn


def trace(axes: Axes, line: Sequence[Point], name: str, across: str = "offered_per_s", **style: Any) -> None:
    known = [(x, y) for point in line if (x := figure(point, across)) and (y := figure(point, name)) is not None]
    if known:
        axes.plot([x for x, _ in known], [y for _, y in known], **style)


def soak(points: Sequence[Point]) -> Figure | None:
    """Memory of every role, throughput and p99 over the minutes."""
    mine = [point for point in good(points) if "second" in point.key and point.figures]
    mine.sort(key=lambda point: float(point.key["second"]))
    if len(mine) < 2:
        return None
    minutes = [float(point.key["second"]) / 60 for point in mine]
    roles = list(dict.fromkeys(role for point in mine for role in point.figures.get("memory_mb") or {}))
    below = [
        (name, label) for name, label in (("accepted_per_s", "requests/s"), ("p99_ms", "p99, ms")) if spread(mine, name)
    ]
    heights = [2, *[1] * len(below)]
    drawn, grid = sheet(1 + len(below), 1, 1.7, sharex=True, height_ratios=heights)
    panels = [axes for (axes,) in grid]
    drawn.align_ylabels(panels)
    memory = {role: [(p.figures.get("memory_mb") or {}).get(role, float("nan")) for p in mine] for role in roles}
    least = 0.07 * max((value for values in memory.values() for value in values if value == value), default=1.0)
    below_it = -least
    for n, (role, values) in enumerate(sorted(memory.items(), key=lambda item: item[1][-1])):
        color = ROLES.get(role, SERIES[(3 + n) % len(SERIES)])
        panels[0].plot(minutes, values, color=color)
        below_it = max(values[-1], below_it + least)  # so that labels do not overlap
        panels[0].annotate(
            f"{role}  {number(values[-1])}", (minutes[-1], below_it), (5, 0), textcoords="offset points",
            va="center", color=color, fontsize=8, annotation_clip=False,
        )  # fmt: skip
    panels[0].set_ylabel("memory, MB")
    panels[0].margins(y=0.12)
    panels[0].set_ylim(bottom=0)
    for axes, (name, label) in zip(panels[1:], below, strict=True):
        values = [value if (value := figure(point, name)) is not None else float("nan") for point in mine]
        axes.plot(minutes, values, color=INK, linewidth=1.1)
        axes.set_ylabel(label)
        axes.margins(y=0.15)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(plain())
    panels[-1].set_xlabel("minutes")
    panels[-1].set_xlim(minutes[0], minutes[-1])
    return drawn


def models(points: Sequence[Point]) -> Figure | None:
    """Memory by role, requests/s, and the time to load and unload, over the number of models."""
    mine = good(points)
    counts = [count for count in kinds(mine, "models") if count]
    columns = {count: of_models(mine, count) for count in counts}
    wanted = {
        "memory, MB": ("MB",),
        "requests/s, 16 at once": ("requests/s over all", "requests/s to one"),
        "seconds a model": ("loading one of two at once, s", "unloading one of two at once, s"),
    }
    kept = {title: names for title, names in wanted.items() if any(columns[n][name] for n in counts for name in names)}
    if not kept:
        return None
    drawn, panels = sheet(1, len(kept), 3.0)
    for axes, (title, names) in zip(panels[0], kept.items(), strict=True):
        shown = [count for count in counts if any(columns[count][name] for name in names)]
        if names == ("MB",):
            stack_memory(axes, [where(mine, models=count, what="memory") for count in shown])
        else:
            for n, name in enumerate(names):
                line_of(axes, [columns[count][name] for count in shown], name, n)
            axes.margins(y=0.1)
            axes.set_ylim(bottom=0)
            axes.legend(loc="best")
        axes.set_title(title)
        axes.set_xlabel("models")
        axes.set_xticks(range(len(shown)), [str(count) for count in shown])
        axes.set_xlim(-0.6, len(shown) - 0.4)
        axes.yaxis.set_major_formatter(plain())
    return drawn


def stack_memory(axes: Axes, columns: Sequence[Sequence[Point]]) -> None:
    roles = list(dict.fromkeys(r for column in columns for p in column for r in p.figures.get("memory_mb") or {}))
    bottoms = [0.0] * len(columns)
    for n, role in enumerate(roles):
        found = [spread(column, f"memory_mb.{role}") for column in columns]
        heights = [each.median if each else 0.0 for each in found]
        axes.bar(range(len(columns)), heights, bottom=bottoms, color=ROLES.get(role, SERIES[(3 + n) % 7]), label=role)
        bottoms = [below + height for below, height in zip(bottoms, heights, strict=True)]
    for place, total in enumerate(bottoms):
        if total:
            axes.annotate(number(total), (place, total), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.12)
    axes.legend(loc="upper left")


def line_of(axes: Axes, columns: Sequence[Spread], name: str, n: int) -> None:
    words = {
        "requests/s over all": "over all models", "requests/s to one": "to one of them",
        "loading one of two at once, s": "loading", "unloading one of two at once, s": "unloading",
    }  # fmt: skip
    known = [(place, found) for place, found in enumerate(columns) if found]
    if not known:
        return
    low = [found.median - min(found.values) for _, found in known]
    high = [max(found.values) - found.median for _, found in known]
    axes.errorbar(
        [place for place, _ in known], [found.median for _, found in known], yerr=[low, high], color=SERIES[n],
        marker=MARKERS[n], label=words[name], elinewidth=0.9,
    )  # fmt: skip
