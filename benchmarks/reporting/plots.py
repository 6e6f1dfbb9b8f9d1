"""The style of the report's plots, and the bars of the ladder and of peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from benchmarks.reporting.tables import Spread, ask_name, at_once, good, inner_ratio, kinds, number, spread, where
from benchmarks.rig.points import Point

WIDTH, DOTS_PER_INCH = 8.0, 200  # 8 inches, 1,600 pixels: twice the width of the page, for high resolutions
INK, GREY, GRID = "#1b2430", "#c3c9d1", "#e3e7ec"
SERIES = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#a68a00",
    "#56b4e9",
    "#5b6470",
)  # Okabe-Ito: for colour-blind readers
OURS, NATIVE = SERIES[0], SERIES[1]
MARKERS = "os^DvPX"
STYLE = {
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY, "xtick.color": INK, "ytick.color": INK,
    "grid.color": GRID, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False, "lines.markersize": 4.5,
    "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 1.6, "font.size": 9, "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 8, "errorbar.capsize": 2.5,
}  # fmt: skip

Plot = Callable[[Sequence[Point]], "Figure | None"]


def draw(plot: Plot, points: Sequence[Point]) -> bytes | None:
    """The plot as a PNG on white; None if there are no points to draw."""
    with rc_context(STYLE):
        drawn = plot(points)
        if drawn is None:
            return None
        buffer = BytesIO()
        drawn.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def sheet(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """A figure with panels; `height` is that of a row, in inches."""
    drawn = Figure(figsize=(WIDTH, height * rows + 0.3), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, drawn.subplots(rows, columns, squeeze=False, **options).tolist()


def plain_log(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, with plain numbers instead of powers of ten."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    near = high / max(low, 1e-12) < 60  # with marks at powers of ten only, there would be too few
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if near else (1,)))
    axis.set_major_formatter(plain())
    axis.set_minor_formatter(NullFormatter())


def plain() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:,.10g}")


def legend(drawn: Figure, handles: Sequence[Any], columns: int = 6) -> None:
    """Draw the legend above the panels, where it hides no line."""
    drawn.legend(handles=handles, loc="outside upper center", ncols=min(columns, len(handles)))


def whiskers(found: Spread) -> tuple[list[float], list[float]]:
    return [found.median - min(found.values)], [max(found.values) - found.median]


def bars(
    axes: Axes, names: Sequence[str], spreads: Sequence[Spread], colors: Sequence[str], texts: Sequence[str]
) -> None:
    """Horizontal bars of medians with a whisker from the smallest to the largest round, each with its text."""
    for place, (found, color, text) in enumerate(zip(spreads, colors, texts, strict=True)):
        if not found:
            continue
        axes.barh(place, found.median, color=color, height=0.62)
        if len(found.values) > 1:
            axes.errorbar(found.median, place, xerr=whiskers(found), color=INK, linewidth=0.9)
        axes.annotate(text, (max(found.values), place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def ladder(points: Sequence[Point]) -> Figure | None:
    """A row for each ask: p50 at 1 at once, with the time added to in process, and requests/s at 16 at once."""
    mine = good(points)
    asks = kinds(mine, "ask")
    if not asks:
        return None
    rungs = {ask: kinds(where(mine, ask=ask), "rung") for ask in asks}
    heights = [len(rungs[ask]) + 1.2 for ask in asks]
    drawn, panels = sheet(len(asks), 2, 0.23 * sum(heights) / len(asks) + 0.3, height_ratios=heights)
    for (left, right), ask in zip(panels, asks, strict=True):
        here = where(mine, ask=ask)
        colors = [kind_color(str(rung)) for rung in rungs[ask]]
        times = [spread(where(here, rung=rung, concurrency=1), "p50_ms") for rung in rungs[ask]]
        base = spread(where(here, rung="in process", concurrency=1), "p50_ms")
        texts = [number(found.median) if found else "" for found in times]
        if base:
            added = [found.median - base.median if found else 0 for found in times]
            pairs = zip(texts, added, strict=True)
            texts = [f"{label}  (+{number(plus)})" if plus > 0 else label for label, plus in pairs]
            left.axvline(base.median, color=INK, linewidth=0.8, linestyle=":")
        bars(left, rungs[ask], times, colors, texts)
        rates = [spread(where(here, rung=rung, concurrency=16), "requests_per_s") for rung in rungs[ask]]
        bars(right, rungs[ask], rates, colors, [number(found.median) if found else "" for found in rates])
        right.set_yticklabels([])
        left.set_title(f"{ask_name(ask)}: p50 in ms, 1 at once")
        right.set_title(f"{ask_name(ask)}: requests/s, 16 at once")
        for axes, room in ((left, 1.4), (right, 1.2)):
            axes.set_xlim(0, max(axes.get_xlim()[1], 1e-6) * room)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(plain())
    keys = [Patch(color=GREY, label="in process (+ what is added to it)"), Patch(color=NATIVE, label="Triton")]
    legend(drawn, [*keys, Patch(color=OURS, label="serve"), Line2D([], [], color=INK, label="smallest–largest round")])
    return drawn


def kind_color(rung: str) -> str:
    return OURS if rung.startswith("serve") else GREY if rung == "in process" else NATIVE


def peers(points: Sequence[Point]) -> Figure | None:
    """Each peer's requests/s as a multiple of those of serve beside it: the peer wins right of the line."""
    mine = [point for point in good(points) if inner_ratio([point], "requests_per_s", "serve")]
    rows, concurrencies = kinds(mine, "rows"), kinds(mine, "concurrency")
    if not mine:
        return None
    asked = {many: kinds(where(mine, rows=many), "peer") for many in rows}
    bars_of = [len(names) for names in asked.values()]
    height = 0.27 * sum(bars_of) / len(rows) + 0.8
    drawn, panels = sheet(len(rows), len(concurrencies), height, sharex=True, height_ratios=bars_of)
    for line, (many, names) in zip(panels, asked.items(), strict=True):
        for axes, concurrency in zip(line, concurrencies, strict=True):
            found = [
                inner_ratio(where(mine, peer=name, rows=many, concurrency=concurrency), "requests_per_s", "serve")
                for name in names
            ]
            colors = [SERIES[1] if each and each.median > 1 else OURS for each in found]
            bars(axes, names, found, colors, [number(each.median) if each else "" for each in found])
            for at, each in enumerate(found):
                if not each:
                    axes.annotate("no figure", (0, at), (4, 0), textcoords="offset points", va="center", fontsize=8)
            axes.axvline(1, color=INK, linewidth=1)
            axes.set_title(f"{ask_name(many)}, {at_once(concurrency)}")
            if axes is not line[0]:
                axes.set_yticklabels([])
    high = max(max(inner_ratio([point], "requests_per_s", "serve").values) for point in mine)
    for axes in (each for line in panels for each in line):
        axes.set_xlim(0, max(1.15, high * 1.2))
        axes.tick_params(labelbottom=axes in panels[-1])
    for axes in panels[-1]:
        axes.set_xlabel("requests/s, as a multiple of serve's")
    return drawn
