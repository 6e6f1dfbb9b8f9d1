"""The plots of Triton alone: latency over throughput and over the offered share; and of the module in process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.reporting.plots import INK, MARKERS, SERIES, legend, plain, plain_log, sheet
from benchmarks.reporting.tables import RANKING, figure, good, kinds, where
from benchmarks.rig.points import Point

LINES = {"grpc": "-", "http": "--"}
PROTOCOLS = {"grpc": "gRPC", "http": "HTTP"}


def sweep_closed(points: Sequence[Point]) -> Figure | None:
    """p99 over rows/s with a growing number of requests at once; a colour for each batch, a line for each protocol."""
    mine = [point for point in where(points, load="closed") if figure(point, "p99_ms") and figure(point, "rows_per_s")]
    models, batches = kinds(mine, "model"), kinds(mine, "batch")
    if not mine:
        return None
    drawn, panels = sheet(1, len(models), 3.6, sharey=True)
    for axes, model in zip(panels[0], models, strict=True):
        for number_, batch in enumerate(batches):
            for protocol in kinds(mine, "protocol"):
                line = where(mine, model=model, batch=batch, protocol=protocol)
                line.sort(key=lambda point: point.key.get("concurrency", 0))
                style = {"color": SERIES[number_ % len(SERIES)], "marker": MARKERS[number_ % len(MARKERS)]}
                curve(axes, line, "rows_per_s", "p99_ms", LINES.get(str(protocol), ":"), style)
        axes.set_title(model)
        axes.set_xlabel("rows/s")
        plain_log(axes, "x")
        plain_log(axes, "y")
    panels[0][0].set_ylabel("p99, ms")
    keys = [
        Line2D([], [], color=SERIES[n % len(SERIES)], marker=MARKERS[n % len(MARKERS)], label=f"batch {batch}")
        for n, batch in enumerate(batches)
    ]
    legend(drawn, [*keys, *protocol_keys(mine), *unstable_key(mine)], 8)
    return drawn


def sweep_open(points: Sequence[Point]) -> Figure | None:
    """p50 and p99 over the offered rate, as a share of the closed loop's best throughput."""
    mine = [point for point in where(points, load="open") if figure(point, "p99_ms") and "share" in point.key]
    loads = list(dict.fromkeys((point.key.get("model"), point.key.get("batch")) for point in mine))
    if not mine:
        return None
    drawn, panels = sheet(1, len(loads), 2.9, sharey=True)
    for axes, (model, batch) in zip(panels[0], loads, strict=True):
        for protocol in kinds(mine, "protocol"):
            here = where(mine, model=model, protocol=protocol)
            line = [point for point in here if point.key.get("batch") == batch]
            line.sort(key=lambda point: float(point.key["share"]))
            for n, name in enumerate(("p99_ms", "p50_ms")):
                style = {"color": SERIES[n], "marker": MARKERS[n]}
                curve(axes, line, "share", name, LINES.get(str(protocol), ":"), style)
        axes.set_title(f"{model}, batch {batch}" if batch is not None else str(model))
        plain_log(axes, "y")
    drawn.supxlabel("requests/s asked for, as a share of the closed loop's best", fontsize=9)
    panels[0][0].set_ylabel("latency, ms")
    keys = [Line2D([], [], color=SERIES[n], marker=MARKERS[n], label=name) for n, name in enumerate(("p99", "p50"))]
    legend(drawn, [*keys, *protocol_keys(mine), *unstable_key(mine)], 8)
    return drawn


def curve(axes: Axes, line: Sequence[Point], across: str, up: str, dashes: str, style: dict[str, Any]) -> None:
    """A line; points that are not stable are hollow."""
    known = [(point, x, y) for point in line if (x := place(point, across)) and (y := figure(point, up))]
    if not known:
        return
    axes.plot([x for _, x, _ in known], [y for *_, y in known], dashes, color=style["color"], linewidth=1.3)
    for point, x, y in known:
        axes.plot(x, y, linestyle="", markerfacecolor="white" if point.error else style["color"], **style)


def place(point: Point, name: str) -> float | None:
    found = point.key.get(name)
    return float(found) if isinstance(found, int | float) else figure(point, name)


def protocol_keys(points: Sequence[Point]) -> list[Line2D]:
    return [
        Line2D([], [], color=INK, linestyle=LINES.get(str(each), ":"), label=PROTOCOLS.get(str(each), str(each)))
        for each in kinds(points, "protocol")
    ]


def unstable_key(points: Sequence[Point]) -> list[Line2D]:
    hollow: dict[str, Any] = {"color": INK, "marker": "o", "mfc": "white", "linestyle": "", "label": "unstable"}
    return [Line2D([], [], **hollow)] if any(point.error for point in points) else []


def in_process(points: Sequence[Point]) -> Figure | None:
    """Pairs/s over the batch; a panel for each model, a colour for each precision, dashed for a CUDA graph."""
    scored = [point for point in good(points) if point.key.get("model") not in RANKING]
    mine = [point for point in scored if figure(point, "samples_per_s")]
    names, dtypes, batches = kinds(mine, "model"), kinds(mine, "dtype"), kinds(mine, "batch")
    if not batches:
        return None
    drawn, panels = sheet(1, len(names), 3.2, sharey=True)
    for axes, name in zip(panels[0], names, strict=True):
        for n, dtype in enumerate(dtypes):
            for graph in (None, "no", "yes"):
                here = where(mine, model=name, dtype=dtype)
                line = [point for point in here if point.key.get("graph") == graph and "batch" in point.key]
                line.sort(key=lambda point: float(point.key["batch"]))
                style = {"color": SERIES[n % len(SERIES)], "marker": MARKERS[n % len(MARKERS)]}
                curve(axes, line, "batch", "samples_per_s", "--" if graph == "yes" else "-", style)
        axes.set_title(str(name))
        axes.set_xlabel("pairs in a batch")
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [f"{batch:,}" for batch in batches], fontsize=7)
        axes.minorticks_off()
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(plain())
    panels[0][0].set_ylabel("pairs/s")
    keys = [
        Line2D([], [], color=SERIES[n % len(SERIES)], marker=MARKERS[n % len(MARKERS)], label=str(dtype))
        for n, dtype in enumerate(dtypes)
    ]
    if where(mine, graph="yes"):
        keys.append(Line2D([], [], color=INK, linestyle="--", label="as a CUDA graph"))
    legend(drawn, keys)
    return drawn
