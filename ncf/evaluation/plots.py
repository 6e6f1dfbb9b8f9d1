"""The plots of a report, each as one PNG for a light and one for a dark page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ncf.evaluation.words import HEADLINES, label, protocols, scorers

WIDTH, PANEL_HEIGHT, DOTS_PER_INCH = 4.8, 2.2, 170  # inches; so many dots are sharp on a phone
WORDS = {"sampled": "sampled negatives", "full": "whole catalogue", "lists": "lists of users"}
GROUPS = {
    "by_user_activity": ("by user activity", "training interactions of the user"),
    "by_item_popularity": ("by item popularity", "training interactions of the held-out item"),
}


@dataclass(frozen=True)
class Theme:
    """Colours of text, of the grid, and of each series (Okabe-Ito: safe for colour-blind readers)."""

    ink: str
    grid: str
    series: tuple[str, ...]


LIGHT = Theme("#1b2430", "#d9dee5", ("#0072b2", "#8a929c", "#d55e00", "#009e73", "#cc79a7", "#a68a00"))
DARK = Theme("#e6e9ee", "#363d48", ("#56b4e9", "#8f99a6", "#ff8a3d", "#2fd1a2", "#e79fc4", "#f0e442"))
MARKERS = "os^DvP"


@dataclass(frozen=True)
class Plot:
    """One plot as PNG in both themes."""

    title: str
    light: bytes
    dark: bytes


Panel = Callable[[Axes, Theme], None]


def draw(document: dict[str, Any], epochs: Sequence[dict[str, Any]]) -> list[Plot]:
    """All plots that the document has figures for: epochs, K, groups of users and of items, coverage."""
    plots = []
    if epochs:
        panels: list[Panel] = [partial(plot_epochs, epochs=epochs, metrics={"loss": "loss"})]
        quality = {"hit_rate_at_10": "HR@10, solid", "ndcg_at_10": "NDCG@10, dashed"}
        if any(epoch.get(key) is not None for epoch in epochs for key in quality):
            panels.append(partial(plot_epochs, epochs=epochs, metrics=quality))
        plots.append(picture("Training: loss, and quality on the hold-out", panels))
    for protocol in protocols(document):
        word = WORDS[protocol]
        names = [metric.split("@")[0] for metric in HEADLINES[protocol]]
        by_k = [partial(plot_by_k, document=document, protocol=protocol, metric=metric) for metric in names]
        plots.append(picture(f"By length of the list, {word}", by_k))
        for key, (title, axis) in GROUPS.items():
            by_group = [
                partial(plot_groups, document=document, protocol=protocol, key=key, metric=metric, axis=axis)
                for metric in HEADLINES[protocol]
            ]
            plots.append(picture(f"{title.capitalize()}, {word}", by_group))
    if document["model"]["lists"]:
        share = partial(plot_coverage, document=document)
        plots.append(picture("Share of the catalogue in the top 10 of any user", [share]))
    return plots


def picture(title: str, panels: Sequence[Panel]) -> Plot:
    return Plot(title, *(render(panels, theme) for theme in (LIGHT, DARK)))


def render(panels: Sequence[Panel], theme: Theme) -> bytes:
    """Panels below one another as a PNG; it is transparent, to show the colour of the page."""
    style = {
        "text.color": theme.ink, "axes.labelcolor": theme.ink, "axes.edgecolor": theme.grid, "xtick.color": theme.ink,
        "ytick.color": theme.ink, "grid.color": theme.grid, "font.size": 9, "axes.grid": True, "axes.grid.axis": "y",
        "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
        "lines.markersize": 4, "lines.linewidth": 1.6, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8,
    }  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * len(panels) + 0.2), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            panel(axes, theme)
        handles, names = axes.get_legend_handles_labels()
        if len(names) > 1:  # above the panels, where the legend hides no line
            figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)))
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, transparent=True, metadata={"Software": None})
    return buffer.getvalue()


def plot_epochs(axes: Axes, theme: Theme, epochs: Sequence[dict[str, Any]], metrics: dict[str, str]) -> None:
    """One colour for each stage of the training; of two metrics the first has solid lines, the second dashed ones."""
    stages = list(dict.fromkeys(str(epoch.get("stage") or "") for epoch in epochs))
    for number, stage in enumerate(stages):
        color = theme.series[number % len(theme.series)]
        mine = [epoch for epoch in epochs if str(epoch.get("stage") or "") == stage]
        for key, line in zip(metrics, ("-", "--"), strict=False):
            known = [(epoch["epoch"], epoch[key]) for epoch in mine if epoch.get(key) is not None]
            marker = MARKERS[number % len(MARKERS)] if len(known) < 30 else ""
            numbers, values = zip(*known, strict=True) if known else ((), ())
            axes.plot(numbers, values, line, color=color, marker=marker, label=stage if line == "-" else "_")
    axes.set_xlabel("epoch")
    axes.set_ylabel("\n".join(metrics.values()))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_by_k(axes: Axes, theme: Theme, document: dict[str, Any], protocol: str, metric: str) -> None:
    for number, name in enumerate(scorers(document)):
        curve = document["by_k"][name][protocol][metric]
        plot_series(axes, theme, number, list(curve.values()), label(document, name))
    label_places(axes, list(curve), f"{metric}@K", "K")


def plot_groups(
    axes: Axes, theme: Theme, document: dict[str, Any], protocol: str, key: str, metric: str, axis: str
) -> None:
    for number, name in enumerate(scorers(document)):
        groups = document[key][name][protocol]
        plot_series(axes, theme, number, [group[metric] for group in groups], label(document, name))
    label_places(axes, [group_name(group) for group in groups], metric, axis)


def plot_coverage(axes: Axes, theme: Theme, document: dict[str, Any]) -> None:
    names = scorers(document)
    shares = [100 * document[name]["lists"]["coverage"] for name in names]
    bars = axes.barh([label(document, name) for name in names], shares, color=theme.series[: len(names)], height=0.6)
    axes.bar_label(bars, fmt="%.1f %%", padding=3, fontsize=8)
    axes.invert_yaxis()  # the model on top
    axes.grid(visible=False)
    axes.set_xlim(0, max(1.0, 1.2 * max(shares)))
    axes.set_xlabel("% of all items")


def plot_series(axes: Axes, theme: Theme, number: int, values: Sequence[float], name: str) -> None:
    """The line of one scorer over equally spaced places; the model's line is thicker and in front."""
    axes.plot(
        range(len(values)),
        values,
        color=theme.series[number],
        marker=MARKERS[number],
        label=name,
        linewidth=1.4 if number else 2.2,
        zorder=2 if number else 3,
    )


def label_places(axes: Axes, places: Sequence[str], metric: str, axis: str) -> None:
    axes.set_xticks(range(len(places)), places)
    axes.set_ylabel(metric)
    axes.set_xlabel(axis)
    axes.set_ylim(bottom=0)


def group_name(group: dict[str, Any]) -> str:
    return f"{group['from']:,}–{group['to']:,}" if group["from"] != group["to"] else f"{group['from']:,}"
