"""Evaluation by the sampled protocol and the full catalogue, beside popularity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ncf.metrics import rank_of_positive, summarise
from ncf.models import NCF, SCORES_AT_ONCE
from ncf.negatives import NUM_EVALUATION_NEGATIVES, SeenItems, seen_positions
from ncf.splits import HeldOut, Split


class Scorer(Protocol):
    """What can be evaluated: pairs (indices broadcast) and users [B] against all items [B, num_items]."""

    def __call__(self, user_index: Tensor, item_index: Tensor) -> Tensor: ...

    def catalogue(self) -> nn.Module: ...


class Popularity(nn.Module):
    """The baseline that ignores the user: an item's score is its number of interactions, float32 [num_items]."""

    counts: Tensor

    def __init__(self, counts: Tensor) -> None:
        super().__init__()
        self.register_buffer("counts", counts.float())

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        return self.counts[item_index]

    def catalogue(self) -> nn.Module:
        return PopularityCatalogue(self.counts)


class PopularityCatalogue(nn.Module):
    """The same counts for every user: [B] -> [B, num_items]."""

    counts: Tensor

    def __init__(self, counts: Tensor) -> None:
        super().__init__()
        self.register_buffer("counts", counts)

    def forward(self, user_index: Tensor) -> Tensor:
        return self.counts.expand(len(user_index), -1)


@dataclass(frozen=True)
class Candidates:
    """Held-out items and what they are ranked against: indices int64 [T], [T], [T, C]; `excluded` bool [T, C]."""

    user_index: Tensor
    item_index: Tensor
    negatives: Tensor
    excluded: Tensor

    @classmethod
    def of(cls, held_out: HeldOut, split: Split, device: torch.device, seed: int) -> Candidates:
        """The data's own negatives where it has them, else 99 unseen items a user, drawn with a seed.

        A negative equal to the positive is excluded; a user without any negative is left out.
        """
        user, item = (torch.as_tensor(index, device=device) for index in (held_out.user_index, held_out.item_index))
        if held_out.negatives is not None:
            negatives = torch.as_tensor(held_out.negatives, device=device)
            excluded = (negatives == item.unsqueeze(1)) | (negatives < 0)
            return cls(user, item, negatives.clamp(min=0), excluded)
        train = split.train
        known_user = torch.cat([torch.as_tensor(train.user_index, device=device), user])
        known_item = torch.cat([torch.as_tensor(train.item_index, device=device), item])
        seen = SeenItems.of(known_user, known_item, train.num_users, train.num_items, device)
        generator = torch.Generator(device).manual_seed(seed)
        negatives, some = seen.draw_unseen(user, NUM_EVALUATION_NEGATIVES, generator)
        return cls(user[some], item[some], negatives[some], torch.zeros_like(negatives[some], dtype=torch.bool))


@torch.inference_mode()
def evaluate_sampled(scorer: Scorer, candidates: Candidates) -> dict[str, float]:
    """HR@10, NDCG@10, MRR, HR@20 of each held-out item among its negatives (paper, section 4.1)."""
    if len(candidates.user_index) == 0:
        return {}
    ranks = []
    rows = max(1, SCORES_AT_ONCE // (64 * (candidates.negatives.shape[1] + 1)))
    for start in range(0, len(candidates.user_index), rows):
        part = slice(start, start + rows)
        items = torch.cat([candidates.item_index[part].unsqueeze(1), candidates.negatives[part]], dim=1)
        score = scorer(candidates.user_index[part].unsqueeze(1), items)
        ranks.append(rank_of_positive(score[:, 0], score[:, 1:], candidates.excluded[part]))
    return summarise(torch.cat(ranks))


@torch.inference_mode()
def evaluate_full(scorer: Scorer, held_out: HeldOut, seen: SeenItems) -> dict[str, float]:
    """The same figures with each held-out item ranked among all items its user has not seen."""
    if len(held_out) == 0:
        return {}
    device = seen.items.device
    catalogue = scorer.catalogue()
    users, items = (torch.as_tensor(index, device=device) for index in (held_out.user_index, held_out.item_index))
    ranks = []
    rows = max(1, SCORES_AT_ONCE // seen.num_items)
    for start in range(0, len(users), rows):
        user, item = users[start : start + rows], items[start : start + rows]
        score = catalogue(user)
        excluded = torch.zeros_like(score, dtype=torch.bool)
        row, position = seen_positions(seen.indptr, user)
        excluded[row, seen.items[position]] = True
        excluded[torch.arange(len(user), device=device), item] = True
        ranks.append(rank_of_positive(score.gather(1, item.unsqueeze(1)).squeeze(1), score, excluded))
    return summarise(torch.cat(ranks))


Report = dict[str, dict[str, dict[str, float]]]


def evaluate(model: NCF, split: Split, seed: int = 0) -> Report:
    """`{"model" | "popularity": {"sampled" | "full": {metric: value}}}` on a split's held-out items."""
    device = next(model.parameters()).device
    model.eval()
    train = split.train
    seen = SeenItems.of(train.user_index, train.item_index, train.num_users, train.num_items, device)
    candidates = Candidates.of(split.held_out, split, device, seed)
    popularity = Popularity(torch.as_tensor(train.popularity(), device=device))
    return {
        name: {
            "sampled": evaluate_sampled(scorer, candidates),
            "full": evaluate_full(scorer, split.held_out, seen),
        }
        for name, scorer in (("model", model), ("popularity", popularity))
    }
