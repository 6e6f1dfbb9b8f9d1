"""Compare a model with the baselines on the same held-out items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ncf.data.splits import Split
from ncf.evaluation.baselines import fit_baselines
from ncf.evaluation.metrics import Margin, by_group, curves, paired_test
from ncf.evaluation.ranking import Ranks, rank_held_out
from ncf.models.neural import NCF
from ncf.models.seen import SeenItems

PROTOCOLS = {
    "sampled": "held-out item among its negatives",
    "full": "held-out item among the whole catalogue, seen items removed",
}
Report = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Comparison:
    """Ranks of the model and of the baselines, `{scorer: {protocol: Ranks}}`; the first scorer is "model".

    `activity` int64 [num_users] and `popularity` int64 [num_items] are numbers of training interactions; `settings` are
    those of the fitted baselines, `left_out` the reasons for the baselines that were not fitted.
    """

    ranks: dict[str, dict[str, Ranks]]
    activity: Tensor
    popularity: Tensor
    settings: dict[str, dict[str, float]]
    left_out: dict[str, str]

    def report(self) -> Report:
        """`{scorer: {"sampled" | "full": {metric: value}}}`."""
        return {name: {way: ranks.summary() for way, ranks in ways.items()} for name, ways in self.ranks.items()}

    def margins(self) -> dict[str, dict[str, dict[str, Margin]]]:
        """`{baseline: {protocol: {"HR@10" | "NDCG@10": the model's lead}}}`."""
        model = self.ranks["model"]
        return {
            name: {
                way: paired_test(model[way].rank, ranks.rank, ranks.user_index)
                for way, ranks in ways.items()
                if len(ranks.rank)
            }
            for name, ways in self.ranks.items()
            if name != "model"
        }

    def coverage(self) -> dict[str, float]:
        """For each scorer, the share of all items that are in the top 10 of any user with a held-out item."""
        shown = {name: ways["full"].recommended for name, ways in self.ranks.items()}
        return {name: items.double().mean().item() for name, items in shown.items() if items is not None}

    def document(self, model_kind: str) -> dict[str, Any]:
        """The document that `ncf evaluate --json` prints; `model_kind` is the name of the model, such as gmf."""
        users = self.ranks["model"]["full"].user_index
        counts = {"users": len(torch.unique(users)), "held_out": len(users)}
        return {**counts, "model_kind": model_kind, **self.report(), **self.details()}

    def details(self) -> dict[str, Any]:
        """The details beside the summary, ready for JSON."""
        return {
            "settings": self.settings,
            "left_out": self.left_out,
            "margins": {
                name: {
                    way: {metric: margin.to_dict() for metric, margin in found.items()} for way, found in ways.items()
                }
                for name, ways in self.margins().items()
            },
            "coverage": self.coverage(),
            "by_k": self._each(lambda ranks: curves(ranks.rank) if len(ranks.rank) else {}),
            "by_user_activity": self._each(lambda ranks: by_group(ranks.rank, self.activity[ranks.user_index])),
            "by_item_popularity": self._each(lambda ranks: by_group(ranks.rank, self.popularity[ranks.item_index])),
        }

    def _each(self, what: Callable[[Ranks], Any]) -> dict[str, dict[str, Any]]:
        return {name: {way: what(ranks) for way, ranks in ways.items()} for name, ways in self.ranks.items()}


def compare(model: NCF, split: Split, seed: int = 0, say: Callable[[str], None] = lambda what: None) -> Comparison:
    """Rank the held-out items of a split by the model, and by baselines fitted on the training part of the split."""
    device = next(model.parameters()).device
    model.eval()
    seen = SeenItems.of_interactions(split.train, device)
    popularity = torch.as_tensor(split.train.popularity(), device=device)
    baselines = fit_baselines(popularity, seen, say)
    ranks = rank_held_out({"model": model, **baselines.scorers}, split, device, seed, say)
    return Comparison(ranks, seen.counts().cpu(), popularity.cpu(), baselines.settings, baselines.left_out)


def evaluate(model: NCF, split: Split, seed: int = 0) -> Report:
    """`{"model" | "popularity" | …: {"sampled" | "full": {metric: value}}}` on the held-out items of a split."""
    return compare(model, split, seed).report()
