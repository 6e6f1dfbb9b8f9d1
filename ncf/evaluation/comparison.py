"""Compare a model with the baselines on the same held-out items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import torch
from torch import Tensor

from ncf.data.interactions import Interactions
from ncf.data.splits import Split
from ncf.evaluation.baselines import fit_baselines
from ncf.evaluation.beyond_accuracy import coverage, diversity, gini, item_vectors, novelty
from ncf.evaluation.lists import Lists
from ncf.evaluation.margins import Margin, paired_test
from ncf.evaluation.metrics import Values, by_group, curves, means
from ncf.evaluation.ranking import Ranks, rank_held_out
from ncf.models.neural import NCF
from ncf.models.seen import SeenItems

Report = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Measured:
    """One scorer in one protocol: each metric of each `unit` ("held_out" items or "users"), and whose it is, [N]."""

    unit: str
    user_index: Tensor
    values: Values

    def summary(self) -> dict[str, float]:
        return means(self.values)

    def inside(self, some: Tensor) -> dict[str, float]:
        """The number of units for which `some`, bool [N], is true, and their means."""
        return {self.unit: int(some.sum()), **means({name: value[some] for name, value in self.values.items()})}


@dataclass(frozen=True)
class Comparison:
    """Ranks of the model and of the baselines, `{scorer: {"sampled" | "full": Ranks}}`; the first scorer is "model".

    `activity` int64 [num_users] and `popularity` int64 [num_items] are numbers of interactions trained on; `vectors`
    [num_items, d] are the model's, which measure the diversity of everybody's lists. `settings` are those of the fitted
    baselines, `left_out` the reasons for the baselines that were not fitted. The protocol "lists" follows from the
    ranks of "full" (docs/metrics.md).
    """

    ranks: dict[str, dict[str, Ranks]]
    activity: Tensor
    popularity: Tensor
    vectors: Tensor
    settings: dict[str, dict[str, float]]
    left_out: dict[str, str]

    @cached_property
    def lists(self) -> dict[str, Lists]:
        """For each scorer, the held-out items of a user in one list."""
        return {name: Lists.of(ways["full"]) for name, ways in self.ranks.items()}

    @cached_property
    def measured(self) -> dict[str, dict[str, Measured]]:
        """`{scorer: {"sampled" | "full" | "lists": every metric that has a value for each held-out item or user}}`."""
        found: dict[str, dict[str, Measured]] = {}
        num_users = int((self.activity > 0).sum())
        for name, ways in self.ranks.items():
            found[name] = {way: Measured("held_out", each.user_index, each.values()) for way, each in ways.items()}
            top = self._top(name)
            shown = {"novelty": novelty(top, self.popularity, num_users), "diversity": diversity(top, self.vectors)}
            lists = self.lists[name]
            found[name]["lists"] = Measured("users", lists.users, {**lists.values(), **shown})
        return found

    def report(self) -> Report:
        """`{scorer: {"sampled" | "full" | "lists": {metric: value}}}`."""
        found = {name: {way: each.summary() for way, each in ways.items()} for name, ways in self.measured.items()}
        for name, ways in found.items():
            if ways["lists"]:
                top, num_items = self._top(name), len(self.popularity)
                ways["lists"] |= {"coverage": coverage(top, num_items), "Gini": gini(top, num_items)}
        return found

    def table(self) -> pl.DataFrame:
        """A row for each scorer and protocol: scorer, protocol, and the metrics; null where a protocol has none."""
        rows = [
            {"scorer": name, "protocol": way, **metrics}
            for name, ways in self.report().items()
            for way, metrics in ways.items()
        ]
        return pl.DataFrame(rows)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.table()._repr_html_()

    def margins(self) -> dict[str, dict[str, dict[str, Margin]]]:
        """`{baseline: {protocol: {metric: the model's lead}}}`; coverage and Gini have no value for each user."""
        model = self.measured["model"]
        return {
            name: {
                way: paired_test(model[way].values, each.values, each.user_index)
                for way, each in ways.items()
                if len(each.user_index)
            }
            for name, ways in self.measured.items()
            if name != "model"
        }

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
            "by_k": {name: self._by_k(name) for name in self.ranks},
            "by_user_activity": {
                name: {way: by_group(self.activity[each.user_index], each.inside) for way, each in ways.items()}
                for name, ways in self.measured.items()
            },
            "by_item_popularity": {name: self._by_popularity(name) for name in self.ranks},
        }

    def _top(self, name: str) -> Tensor:
        top = self.ranks[name]["full"].top
        assert top is not None
        return top

    def _by_k(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            way: curves(ranks.rank) if len(ranks.rank) else {} for way, ranks in self.ranks[name].items()
        }
        lists = self.lists[name]
        return {**found, "lists": lists.curves() if len(lists.users) else {}}

    def _by_popularity(self, name: str) -> dict[str, Any]:
        """In lists, only a user's held-out items of the group are relevant, and users without any do not count."""
        lists = self.lists[name]

        def in_lists(inside: Tensor) -> dict[str, float]:
            found = lists.rows(inside)
            return Measured("users", found.users, found.values()).inside(torch.ones_like(found.users, dtype=torch.bool))

        ranks = self.ranks[name]
        found = {
            way: by_group(self.popularity[each.item_index], self.measured[name][way].inside)
            for way, each in ranks.items()
        }
        return {**found, "lists": by_group(self.popularity[ranks["full"].item_index], in_lists)}


def compare(
    model: NCF, split: Split, fit: Interactions, seed: int = 0, say: Callable[[str], None] = lambda what: None
) -> Comparison:
    """Rank the held-out items of a split by the model, and by baselines fitted on `fit`, which the model was fitted on.

    `fit` is in the indices of the split; it lacks the items that chose the epoch, which are no candidates either way.
    """
    device = next(model.parameters()).device
    model.eval()
    seen = SeenItems.of_interactions(fit, device)
    popularity = torch.as_tensor(fit.popularity(), device=device)
    baselines = fit_baselines(popularity, seen, say)
    ranks = rank_held_out({"model": model, **baselines.scorers}, split, device, seed, say)
    vectors = item_vectors(model).cpu()
    return Comparison(ranks, seen.counts().cpu(), popularity.cpu(), vectors, baselines.settings, baselines.left_out)
