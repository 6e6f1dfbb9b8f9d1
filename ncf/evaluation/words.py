"""The words that tables, pages and plots of an evaluation share."""

from __future__ import annotations

from typing import Any

PROTOCOLS = {
    "sampled": "held-out item among its negatives",
    "full": "held-out item among the whole catalogue, seen items removed",
    "lists": "all held-out items of a user in one list, seen items removed; means over users",
}
HEADLINES = {"sampled": ("HR@10", "NDCG@10"), "full": ("HR@10", "NDCG@10"), "lists": ("Recall@20", "NDCG@20")}
BEYOND = ("coverage", "Gini", "novelty", "diversity")  # of the top 10 of all users, whoever is right
LABELS = {"popularity": "popularity", "ease": "EASE", "ials": "iALS"}
CHANCE = 0.05  # a lead with a smaller p is hardly chance; its 95 % interval is without 0


def label(document: dict[str, Any], name: str) -> str:
    """The name of a scorer in tables and plots."""
    return LABELS.get(name) or str(document["model_kind"])


def scorers(document: dict[str, Any]) -> list[str]:
    """The scorers of a document of `ncf evaluate --json`: the model, then its baselines."""
    return ["model", *(name for name in LABELS if name in document)]


def protocols(document: dict[str, Any]) -> list[str]:
    """The protocols to show: "lists" says what "full" says unless some user has several held-out items."""
    several = document["held_out"] > document["users"]
    return [way for way in PROTOCOLS if document["model"][way] and (several or way != "lists")]


def is_clear(margin: dict[str, Any]) -> bool:
    return bool(margin["p"] < CHANCE)


def margin_text(margin: dict[str, Any]) -> str:
    """A lead and half of its interval's width."""
    half = "–" if margin["low"] is None else f"{(margin['high'] - margin['low']) / 2:.4f}"
    return f"{margin['difference']:+.4f} ± {half}"


def interval_text(margin: dict[str, Any]) -> str:
    """A lead, its interval and its z."""
    bounds = "–" if margin["low"] is None else f"{margin['low']:+.4f} to {margin['high']:+.4f}"
    return f"{margin['difference']:+.4f} [{bounds}], z {margin['z']:.1f}"


def settings_text(document: dict[str, Any]) -> str:
    """One line: the settings of the fitted baselines, and the reasons for those that are left out."""
    parts = [
        f"{LABELS[name]}: " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in settings.items())
        for name, settings in document["settings"].items()
    ]
    parts += [f"{LABELS[name]} is left out: {reason}" for name, reason in document["left_out"].items()]
    return "; ".join(parts)
