"""The page about a search: its course, the importance of the settings, each setting beside the figures, the trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from ncf.evaluation.page import figure, table, whole
from ncf.evaluation.plots import Plot, Theme, picture
from ncf.training.config import TrainConfig
from ncf.tuning.ranges import Range
from ncf.tuning.results import DONE, PRUNED, Row

if TYPE_CHECKING:
    from optuna.study import Study

LEAST = 4  # trials; of fewer an importance says nothing
TICKS = 4  # between the ends of a logarithmic axis


def importances(study: Study) -> dict[str, float]:
    """The share of each setting in the differences of the trials, by PED-ANOVA (arXiv 2304.10255); {} for few."""
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    return get_param_importances(study) if len(done) >= LEAST else {}


def page(
    rows: Sequence[Row], best: Row, ranges: Sequence[Range], shares: dict[str, float], data: str, config: TrainConfig
) -> str:
    """The HTML; `config` are the settings of the search, in which those of a trial take the place of the searched."""
    title = f"Search for a {config.model} on {data}"
    counts = ", ".join(
        f"{sum(row.state == state for row in rows)} {state}" for state in dict.fromkeys(row.state for row in rows)
    )
    first = rows[0].ndcg_at_10
    lead = f" The first trial, with the settings to start from, has {first:.4f}." if rows[0].state == DONE else ""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=about>{len(rows)} trials: {counts}. NDCG@10 is on the items that choose the best epoch, never on "
        "the held-out items; the best of many trials is a little too high, so evaluate the model trained with it.</p>",
        f"<p>Best: trial {best.trial}, NDCG@10 <b>{best.ndcg_at_10:.4f}</b> with {escape(best.words)}.{lead}</p>",
        "<h2>Plots</h2><div class=plots>",
        *(figure(plot) for plot in draw(rows, ranges, shares)),
        "</div><h2>Trials, best first</h2>",
        trials_table(rows, ranges),
        "<h2>Settings of all trials</h2><div class=settings>",
    ]
    searched = {each.setting for each in ranges}
    for name, value in config.to_dict().items():
        if name not in searched and name not in ("columns", "reading"):
            parts.append(f"<div>{escape(name.replace('_', ' '))} <b>{escape(str(value))}</b></div>")
    return whole(title, [*parts, "</div>"])


def trials_table(rows: Sequence[Row], ranges: Sequence[Range]) -> str:
    header = [
        "trial",
        "ended",
        "NDCG@10",
        "HR@10",
        "best epoch",
        "epochs",
        "seconds",
        *(each.setting for each in ranges),
    ]
    ordered = sorted(rows, key=lambda row: (row.state != DONE, -(row.ndcg_at_10 or 0.0)))
    lines = []
    for row in ordered:
        figures = [f"{value:.4f}" if value is not None else "" for value in (row.ndcg_at_10, row.hit_rate_at_10)]
        cells: list[Any] = [
            row.trial, f"{row.state}: {row.reason}" if row.reason else row.state, *figures, row.best_epoch or "",
            row.epochs, f"{row.seconds:.1f}", *(row.settings.get(each.setting, "") for each in ranges),
        ]  # fmt: skip
        lines.append([escape(str(cell)) for cell in cells])
    return table(header, lines)


def draw(rows: Sequence[Row], ranges: Sequence[Range], shares: dict[str, float]) -> list[Plot]:
    """The course of the search, the importance of the settings, and one plot for each setting."""
    plots = [picture("NDCG@10 by trial; the line is the best so far", [partial(plot_course, rows=rows)])]
    if shares:
        plots.append(picture("Importance: share in the differences", [partial(plot_shares, shares=shares)]))
    for_settings = (
        picture(f"NDCG@10 by {each.setting}", [partial(plot_setting, rows=rows, of=each)]) for each in ranges
    )
    return [*plots, *for_settings]


def plot_course(axes: Axes, theme: Theme, rows: Sequence[Row]) -> None:
    points(axes, theme, rows, [float(row.trial) for row in rows])
    best, so_far = [], math.nan
    for row in rows:
        if row.state == DONE and row.ndcg_at_10 is not None:
            so_far = row.ndcg_at_10 if math.isnan(so_far) else max(so_far, row.ndcg_at_10)
        best.append(so_far)
    axes.plot([row.trial for row in rows], best, color=theme.series[0], drawstyle="steps-post")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_shares(axes: Axes, theme: Theme, shares: dict[str, float]) -> None:
    bars = axes.barh(list(shares), [100 * share for share in shares.values()], color=theme.series[0], height=0.6)
    axes.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlim(0, 115 * max(shares.values()))
    axes.set_xlabel("% of all settings")


def plot_setting(axes: Axes, theme: Theme, rows: Sequence[Row], of: Range) -> None:
    known = [row for row in rows if of.setting in row.settings]
    points(axes, theme, known, [float(row.settings[of.setting]) for row in known])
    if of.log:
        axes.set_xscale("log")
        ticks = [of.low * (of.high / of.low) ** (part / TICKS) for part in range(TICKS + 1)]
        axes.set_xticks(ticks, [f"{tick:.2g}" if tick < 10 else f"{tick:.0f}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(of.low / 1.1 if of.log else of.low - 0.05 * (of.high - of.low), of.high * 1.1)
    axes.set_xlabel(f"{of.setting} ({of})")


def points(axes: Axes, theme: Theme, rows: Sequence[Row], places: Sequence[float]) -> None:
    """The figures of trials at places of the x axis: those that were trained to their end full, pruned ones hollow."""
    for state, color, face in ((PRUNED, theme.series[1], "none"), (DONE, theme.series[0], theme.series[0])):
        mine = [(place, row.ndcg_at_10) for place, row in zip(places, rows, strict=True) if row.state == state]
        if mine:
            xs, ys = zip(*mine, strict=True)
            axes.scatter(xs, ys, s=22, facecolors=face, edgecolors=color, label=state, zorder=3)
    axes.set_ylabel("NDCG@10")
