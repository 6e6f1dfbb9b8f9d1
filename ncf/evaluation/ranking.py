"""Ranks of held-out items, among sampled negatives and among the full catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ncf.data.splits import HeldOut, Split
from ncf.evaluation.metrics import rank_of_positive, summarise
from ncf.models.neural import SCORES_AT_ONCE
from ncf.models.scorers import Scorer
from ncf.models.seen import SeenItems, known_items, pairs, seen_positions

NUM_EVALUATION_NEGATIVES = 99
RECOMMENDED = 10  # length of the lists whose items coverage counts


@dataclass(frozen=True)
class Candidates:
    """Held-out items and their negatives: indices int64 [T], [T], [T, C]; `excluded` negatives do not count."""

    user_index: Tensor
    item_index: Tensor
    negatives: Tensor
    excluded: Tensor

    @classmethod
    def of(cls, held_out: HeldOut, split: Split, device: torch.device, seed: int) -> Candidates:
        """The negatives of the data if it has any, else 99 random unseen items for each row, drawn with a seed.

        A negative equal to the held-out item is excluded. Other held-out items of the user are not drawn; a user
        without any possible negative is left out.
        """
        user, item = pairs(held_out, device)
        if held_out.negatives is not None:
            negatives = torch.as_tensor(held_out.negatives, device=device).long()
            excluded = (negatives == item.unsqueeze(1)) | (negatives < 0)
            return cls(user, item, negatives.clamp(min=0), excluded)
        known = known_items(split, device).including(user, item)
        generator = torch.Generator(device).manual_seed(seed)
        negatives, some = known.draw_unseen(user, NUM_EVALUATION_NEGATIVES, generator)
        return cls(user[some], item[some], negatives[some], torch.zeros_like(negatives[some], dtype=torch.bool))


@dataclass(frozen=True)
class Ranks:
    """The ranks of held-out items by one scorer: `user_index`, `item_index`, `rank` (0 is best) int64 [T], on the CPU.

    `recommended` bool [num_items], for the full catalogue only: the items in the top 10 of any of these users.
    """

    user_index: Tensor
    item_index: Tensor
    rank: Tensor
    recommended: Tensor | None = None

    def summary(self) -> dict[str, float]:
        return summarise(self.rank) if len(self.rank) else {}


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
    return Ranks(candidates.user_index.cpu(), candidates.item_index.cpu(), torch.cat(ranks))


@torch.inference_mode()
def full_ranks(scorer: Scorer, held_out: HeldOut, seen: SeenItems) -> Ranks:
    """Ranks of held-out items among all items, without those seen by the user and the user's other held-out items."""
    device = seen.items.device
    catalogue = scorer.catalogue()
    users, items = pairs(held_out, device)
    others = SeenItems.of(users, items, len(seen.indptr) - 1, seen.num_items, device)
    recommended = torch.zeros(seen.num_items, dtype=torch.bool, device=device)
    ranks = [torch.empty(0, dtype=torch.int64)]
    rows = max(1, SCORES_AT_ONCE // seen.num_items)
    for start in range(0, len(users), rows):
        user, item = users[start : start + rows], items[start : start + rows]
        score = catalogue(user)
        excluded = torch.zeros_like(score, dtype=torch.bool)
        mark(excluded, seen, user)
        top = score.masked_fill(excluded, -torch.inf).topk(min(RECOMMENDED, seen.num_items))
        recommended[top.indices[top.values > -torch.inf]] = True
        mark(excluded, others, user)
        ranks.append(rank_of_positive(score.gather(1, item.unsqueeze(1)).squeeze(1), score, excluded).cpu())
    return Ranks(users.cpu(), items.cpu(), torch.cat(ranks), recommended.cpu())


def mark(table: Tensor, items: SeenItems, user_index: Tensor) -> None:
    """Set the items of users [B] to true in a table, bool [B, num_items]."""
    row, position = seen_positions(items.indptr, user_index)
    table[row, items.items[position].long()] = True


def evaluate_sampled(scorer: Scorer, candidates: Candidates) -> dict[str, float]:
    """HR@10, NDCG@10, MRR and HR@20 of held-out items among their negatives; empty without held-out items."""
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
