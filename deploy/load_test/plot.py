"""The latency by the rate, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deploy.errors import WorldError
from deploy.load_test.figures import Limits, Step

INK, GRID = "#1b2430", "#d9dee5"
# Okabe and Ito's colours, which colour-blind readers can tell apart.
SERIES = (("p50_ms", "p50", "#0072b2", "o"), ("p95_ms", "p95", "#009e73", "s"), ("p99_ms", "p99", "#d55e00", "^"))
STYLE = {
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GRID, "xtick.color": INK, "ytick.color": INK,
    "grid.color": GRID, "font.size": 9, "axes.grid": True, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "lines.markersize": 4, "lines.linewidth": 1.6,
}  # fmt: skip


def write_plot(path: Path, steps: Sequence[Step], limits: Limits, title: str) -> None:
    """Percentiles of all steps, and the limit as a dashed line. Raises WorldError if the file cannot be written."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for name, label, color, marker in SERIES:
            known = [(step.asked_per_s, getattr(step, name)) for step in steps if getattr(step, name) is not None]
            axes.plot([rate for rate, _ in known], [ms for _, ms in known], color=color, marker=marker, label=label)
        axes.axhline(limits.p99_ms, color=INK, linestyle="--", linewidth=1, label=f"limit of p99, {limits.p99_ms:g} ms")
        axes.set_yscale("log")
        axes.set_xlabel("requests/s asked")
        axes.set_ylabel("ms, from when a request was due")
        axes.set_title(title, fontsize=9)
        axes.legend()
        try:
            figure.savefig(path, dpi=150)
        except OSError as error:
            raise WorldError(f"--plot {path} cannot be written: {error.strerror}; choose another file") from error
