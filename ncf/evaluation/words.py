"""The words that tables, pages and plots of an evaluation share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

LABELS = {"popularity": "popularity", "ease": "EASE", "ials": "iALS"}
CLEAR = 2.0  # a difference with a larger |z| is hardly chance: p below .05


def label(document: dict[str, Any], name: str) -> str:
    """The name of a scorer in tables and plots."""
    return LABELS.get(name) or str(document["model_kind"])


def scorers(document: dict[str, Any]) -> list[str]:
    """The scorers of a document of `ncf evaluate --json`: the model, then its baselines."""
    return ["model", *(name for name in LABELS if name in document)]


def margin_text(margin: dict[str, float]) -> str:
    return f"{margin['difference']:+.4f} (z {margin['z']:.1f})"


def settings_text(document: dict[str, Any]) -> str:
    """One line: the settings of the fitted baselines, and the reasons for those that are left out."""
    parts = [
        f"{LABELS[name]}: " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in settings.items())
        for name, settings in document["settings"].items()
    ]
    parts += [f"{LABELS[name]} is left out: {reason}" for name, reason in document["left_out"].items()]
    return "; ".join(parts)
