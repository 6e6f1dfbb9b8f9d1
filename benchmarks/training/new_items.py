"""The protocol of new items: trained without a share of the items, which are then added by their features.

Recall@50 of each user's interactions with new items, among all items that the user has not in training, averaged over
users. A scorer that gives new items more places finds more of them. So every scorer is also measured with its new items
raised until they have as many places as the model gives them, and among the new items alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.splits import Split
from ncf.errors import InputError
from ncf.export.new import with_new
from ncf.features.encoding import FeatureValues, side_features
from ncf.features.table import FeatureTable, read_features
from ncf.training.config import TrainConfig
from ncf.training.run import Life, train_run
from ncf.training.run_directory import load_run

CPU = torch.device("cpu")
K, USERS_AT_ONCE = 50, 1024
QUIET = Life(quiet=True, say=lambda line: None)
Scores = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Catalogue:
    """Known items first, then new ones, of which there are `num_new`; which user has which, as tables of 0 and 1."""

    has: Tensor  # bool [num_users, num_known]
    known_test: Tensor  # bool [num_users, num_known]: the usual held-out items
    new_test: Tensor  # bool [num_users, num_new]

    def measure(self, scores: Scores, raised: float = 0.0, known: bool = True) -> dict[str, float]:
        """Recall@50 of new items and of held-out known ones, and the places that new items have of 50."""
        found, places = [], 0.0
        num_known = self.has.shape[1]
        for users in torch.split(torch.arange(len(self.has)), USERS_AT_ONCE):
            score = scores(users).clone()
            score[:, num_known:] += raised
            score[:, :num_known].masked_fill_(self.has[users] if known else torch.ones(()).bool(), -torch.inf)
            top = torch.zeros_like(score, dtype=torch.bool).scatter_(1, score.topk(K).indices, True)
            places += float(top[:, num_known:].sum())
            for part, test in ((top[:, num_known:], self.new_test), (top[:, :num_known], self.known_test)):
                found.append((part & test[users]).sum(1) / test[users].sum(1))  # NaN for a user without
        return {
            "new": torch.cat(found[0::2]).nanmean().item(),
            "known": torch.cat(found[1::2]).nanmean().item(),
            "places": places / len(self.has),
        }

    def raised_to(self, scores: Scores, places: float) -> float:
        """What gives the new items so many places."""
        low, high = -1.0, 1.0
        while self.measure(scores, high)["places"] < places:
            low, high = high, 4 * high
        while self.measure(scores, low)["places"] > places:
            low, high = 4 * low, low
        for _ in range(14):
            middle = (low + high) / 2
            low, high = (middle, high) if self.measure(scores, middle)["places"] < places else (low, middle)
        return high


def new_items(
    split: Split, config: TrainConfig, item_features: Path, user_features: Path | None, genres: str, share: float
) -> dict[str, dict[str, float]]:
    """The figures of each scorer.

    new              Recall@50 of interactions with new items, among all items
    known            Recall@50 of the usual held-out items, among all items
    places           of the 50, that new items have
    known alone      `known` without new items in the catalogue
    as many places   `new` with new items raised until they have the model's places
    among new        Recall@50 among the new items
    """
    table = read_features(item_features, "item", config.split.columns, "--item-features")
    generator = np.random.default_rng(config.seed)
    num_items = split.train.num_items
    is_new = np.zeros(num_items, bool)
    is_new[generator.choice(num_items, max(1, round(share * num_items)), replace=False)] = True
    known, new = split.train.items.only(~is_new), split.train.items.only(is_new)
    place = np.where(is_new, np.cumsum(is_new) - 1, np.cumsum(~is_new) - 1)
    is_new_row = is_new[split.train.item_index]
    train = Interactions(
        split.train.users, known, split.train.user_index[~is_new_row], place[split.train.item_index[~is_new_row]]
    )
    rows = ~is_new[split.held_out.item_index]
    held_out = split.held_out.take(rows)
    held_out = type(held_out)(held_out.user_index, place[held_out.item_index])
    user_index = np.concatenate([split.train.user_index[is_new_row], split.held_out.user_index[~rows]])
    item_index = place[np.concatenate([split.train.item_index[is_new_row], split.held_out.item_index[~rows]])]

    def of(num: int, user: np.ndarray, item: np.ndarray) -> Tensor:  # type: ignore[type-arg]
        cells = torch.zeros(split.train.num_users, num, dtype=torch.bool)
        cells[user, item] = True
        return cells

    catalogue = Catalogue(
        of(len(known), train.user_index, train.item_index),
        of(len(known), held_out.user_index, held_out.item_index),
        of(len(new), user_index, item_index),
    )
    with TemporaryDirectory(prefix="ncf-") as folder:
        cells = table.columns.with_columns(item_id=table.ids)
        train_run(Split(train, held_out), Path(folder) / "run", config, CPU, QUIET, cells, user_features)
        of_new = cells.filter(pl.col("item_id").is_in(new.ids.cast(pl.String).implode()))
        run, _ = with_new(load_run(Path(folder) / "run"), of_new)
    order = np.concatenate([np.arange(len(known)), len(known) + _places(run.items, new, len(known))])
    scorer = run.model.catalogue()

    def model(users: Tensor) -> Tensor:
        with torch.inference_mode():
            score: Tensor = scorer(users)[:, order]
        return score

    scorers: dict[str, Scores] = {"model": model, **rivals(table, known, new, catalogue.has, genres)}
    figures = {name: catalogue.measure(scores) for name, scores in scorers.items()}
    for name, scores in scorers.items():
        equal = catalogue.raised_to(scores, figures["model"]["places"])
        figures[name]["known alone"] = catalogue.measure(scores, -1e30)["known"]
        figures[name]["as many places"] = catalogue.measure(scores, equal)["new"]
        figures[name]["among new"] = catalogue.measure(scores, known=False)["new"]
    return figures


def _places(items: IdIndex, new: IdIndex, num_known: int) -> np.ndarray:  # type: ignore[type-arg]
    found = items.encode(new.ids) - num_known
    if (found < 0).any():
        raise InputError("an item of the data has no row in the features; the protocol needs one for each")
    return found


def rivals(table: FeatureTable, known: IdIndex, new: IdIndex, has: Tensor, genres: str) -> dict[str, Scores]:
    """Scorers that know features and the interactions with known items, but train nothing."""
    encoding = side_features(table, known, "item").encoding
    first = 1
    for column in encoding.columns:
        if column.name == genres:
            break
        first += column.num_values
    else:
        raise InputError(f"no column is called '{genres}'; name the one of categories with --genres")
    of = IdIndex(table.ids).encode(pl.concat([known.ids, new.ids]))
    features = dense(encoding.encode(table.columns, of))[:, 1:]
    genre = (features[:, first - 1 : first - 1 + column.num_values] > 0).float()
    counts, of_known = has.float().sum(0), genre[: len(known)]
    popularity = (of_known * counts.unsqueeze(1)).sum(0) / of_known.sum(0).clamp(min=1)
    by_genre = (genre * popularity).sum(1) / genre.sum(1).clamp(min=1)
    features = features / features.norm(dim=1, keepdim=True).clamp(min=1e-9)

    def of_the_user(users: Tensor) -> Tensor:
        taste = has[users].float() @ of_known
        return (taste / taste.sum(1, keepdim=True).clamp(min=1)) @ (genre * popularity).t()

    def nearest(users: Tensor) -> Tensor:
        taste = has[users].float() @ features[: len(known)]
        cosine: Tensor = taste / taste.norm(dim=1, keepdim=True).clamp(min=1e-9) @ features.t()
        return cosine

    return {
        "popularity by genre": lambda users: by_genre.expand(len(users), -1),
        "… of the user's genres": of_the_user,
        "nearest features": nearest,
    }


def dense(values: FeatureValues) -> Tensor:
    cells = torch.zeros(len(values.indptr) - 1, values.num_values)
    cells[np.repeat(np.arange(len(cells)), np.diff(values.indptr)), values.value] = torch.from_numpy(values.weight)
    return cells
