"""Ranks of held-out items, among sampled negatives and among the full catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncf.data.splits import HeldOut, Split
from ncf.evaluation.metrics import Values, means, rank_of_positive, row_values, share_behind
from ncf.models.neural import SCORES_AT_ONCE
from ncf.models.scorers import Scorer
from ncf.models.seen import SeenItems, known_items, pairs, seen_positions

NUM_EVALUATION_NEGATIVES = 99
RECOMMENDED = 10  # length of the lists that are kept, for coverage, novelty and diversity


@dataclass(frozen=True)
class Candidates:
    """Held-out items and their negatives: indices int64 [T], [T], [T, C]; `excluded` negatives do not count."""

    user_index: Tensor
    item_index: Tensor
    negatives: Tensor
    excluded: Tensor

    @classmethod
    def of(cls, held_out: HeldOut, split: Split, device: torch.device, seed: int) -> Candidates:
        """The negatives of the data if it has any, else 99 different random unseen items for each row, drawn by a seed.

        A negative equal to the held-out item is excluded. Other held-out items of the user are not drawn. A user with
        fewer possible negatives has all of them, and one without any is left out.
        """
        user, item = pairs(held_out, device)
        if held_out.negatives is not None:
            negatives = torch.as_tensor(held_out.negatives, device=device).long()
            excluded = (negatives == item.unsqueeze(1)) | (negatives < 0)
            some = ~excluded.all(dim=1)
            return cls(user[some], item[some], negatives[some].clamp(min=0), excluded[some])
        known = known_items(split, device).including(user, item)
        generator = torch.Generator(device).manual_seed(seed)
        negatives, drawn = known.draw_distinct(user, NUM_EVALUATION_NEGATIVES, generator)
        some = drawn.any(dim=1)
        return cls(user[some], item[some], negatives[some], ~drawn[some])


@dataclass(frozen=True)
class Ranks:
    """The ranks of held-out items by one scorer: `user_index`, `item_index`, `rank` (0 is best) int64 [T], on the CPU.

    `rivals` int64 [T] are the numbers of items that each was ranked among. `top` int64 [U, 10], for the full catalogue
    only, has the best items that each of these users, in ascending order, has not seen; -1 stands for no item.
    """

    user_index: Tensor
    item_index: Tensor
    rank: Tensor
    rivals: Tensor
    top: Tensor | None = None

    def values(self) -> Values:
        """Every metric of each held-out item, float64 [T]."""
        return {**row_values(self.rank), "AUC": share_behind(self.rank, self.rivals)}

    def summary(self) -> dict[str, float]:
        return means(self.values())


@torch.inference_mode()
def sampled_ranks(scorer: Scorer, candidates: Candidates) -> Ranks:
    """Ranks of held-out items among their negatives (arXiv 1708.05031, section 4.1)."""
    ranks = [torch.empty(0, dtype=torch.int64)]
    rows = max(1, SCORES_AT_ONCE // (64 * (candidates.negatives.shape[1] + 1)))
    for start in range(0, len(candidates.user_index), rows):
        part = slice(start, start + rows)
        items = torch.cat([candidates.item_index[part].unsqueeze(1), candidates.negatives[part]], dim=1)
        score = scorer(candidates.user_index[part].unsqueeze(1), items)
        ranks.append(rank_of_positive(score[:, 0], score[:, 1:], candidates.excluded[part]).cpu())
    rivals = (~candidates.excluded).sum(dim=1)
    return Ranks(candidates.user_index.cpu(), candidates.item_index.cpu(), torch.cat(ranks), rivals.cpu())


@torch.inference_mode()
def full_ranks(scorer: Scorer, held_out: HeldOut, seen: SeenItems) -> Ranks:
    """Ranks of held-out items among all items, without those seen by the user and the user's other held-out items.

    A user for whom no other item is left is left out.
    """
    device = seen.items.device
    catalogue = scorer.catalogue()
    users, items = pairs(held_out, device)
    known = seen.including(users, items)
    num_rivals = seen.num_items - known.counts()
    rank = torch.empty_like(users)
    # The items of a user share one pass over the catalogue; `order` are the rows by user.
    each, number, counts = torch.unique(users, return_inverse=True, return_counts=True)
    order, ends = torch.argsort(number, stable=True), counts.cumsum(0)
    top = each.new_empty((len(each), min(RECOMMENDED, seen.num_items)))
    step = max(1, SCORES_AT_ONCE // seen.num_items)
    for start in range(0, len(each), step):
        user = each[start : start + step]
        rows = order[int(ends[start] - counts[start]) : int(ends[start + len(user) - 1])]
        score, of = catalogue(user), number[rows] - start
        positive = score[of, items[rows]]
        leave_out(score, seen, user)
        best = score.topk(top.shape[1])
        top[start : start + len(user)] = torch.where(best.values > -torch.inf, best.indices, -1)
        leave_out(score, known, user)
        # Nothing is below a score that is not a number, or minus infinity: then every rival is ahead.
        ahead = seen.num_items - count_below(score, of, positive)
        rank[rows] = torch.where(positive > -torch.inf, ahead, num_rivals[users[rows]])
    some, top = (num_rivals[users] > 0).cpu(), top[num_rivals[each] > 0]
    return Ranks(users.cpu()[some], items.cpu()[some], rank.cpu()[some], num_rivals[users].cpu()[some], top.cpu())


def leave_out(score: Tensor, items: SeenItems, user_index: Tensor) -> None:
    """Set the scores [B, num_items] of the items of users [B] to minus infinity."""
    row, position = seen_positions(items.indptr, user_index)
    score[row, items.items[position].long()] = -torch.inf


def count_below(score: Tensor, row: Tensor, than: Tensor) -> Tensor:
    """For each of `row` [T] the number of scores [B, I] in that row that are below `than` [T].

    On a CPU NumPy counts a row in a tenth of the time in which PyTorch adds up truth values.
    """
    if score.device.type != "cpu":
        parts = zip(torch.split(row, 256), torch.split(than, 256), strict=True)
        return torch.cat([(score[of] < value.unsqueeze(1)).sum(dim=1) for of, value in parts])
    rows, found = score.numpy(), zip(row.tolist(), than.numpy(), strict=True)
    return torch.tensor([int(np.count_nonzero(rows[number] < value)) for number, value in found], dtype=torch.int64)


def evaluate_sampled(scorer: Scorer, candidates: Candidates) -> dict[str, float]:
    """HR@10, NDCG@10, MRR, HR@20 and AUC of held-out items among their negatives; empty without held-out items."""
    return sampled_ranks(scorer, candidates).summary()


def evaluate_full(scorer: Scorer, held_out: HeldOut, seen: SeenItems) -> dict[str, float]:
    """The same metrics with each held-out item ranked among all items that its user has not seen."""
    return full_ranks(scorer, held_out, seen).summary()


def rank_held_out(
    scorers: Mapping[str, Scorer],
    split: Split,
    device: torch.device,
    seed: int = 0,
    say: Callable[[str], None] = lambda what: None,
) -> dict[str, dict[str, Ranks]]:
    """`{scorer: {"sampled" | "full": Ranks}}` of a split's held-out items; the rows of a protocol are the same for all.

    `seed` draws the negatives if the data has none; `say` is called with a line for each scorer.
    """
    seen = known_items(split, device)
    candidates = Candidates.of(split.held_out, split, device, seed)
    ranks = {}
    for name, scorer in scorers.items():
        say(f"ranking: {name}")
        ranks[name] = {
            "sampled": sampled_ranks(scorer, candidates),
            "full": full_ranks(scorer, split.held_out, seen),
        }
    return ranks
