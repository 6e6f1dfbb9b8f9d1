"""Two of the exported modules (`query.py` has the third): scriptable, without a device, defined for any int64.

Triton merges the rows of many callers into one forward pass, so an invalid index must not fail the other rows.
"""

import copy

import torch
from torch import Tensor, nn

from ncf.models.neural import NCF, SCORES_AT_ONCE, Catalogue
from ncf.models.seen import SeenItems, seen_positions


class TotalScorer(nn.Module):
    """`user_index`, `item_index` int64 [B, 1] -> score [B, 1]; an unknown index has the mean embedding."""

    def __init__(self, model: NCF, num_users: int, num_items: int) -> None:
        super().__init__()
        self.model = _with_unknown_row(model)
        self.num_users = num_users
        self.num_items = num_items

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        user = torch.where((user_index >= 0) & (user_index < self.num_users), user_index, self.num_users)
        item = torch.where((item_index >= 0) & (item_index < self.num_items), item_index, self.num_items)
        score: Tensor = self.model(user, item)
        return score


class Ranking(nn.Module):
    """What the modules that rank the whole catalogue have in common: `rank_users`, and the tensors it needs."""

    popularity: Tensor
    seen_indptr: Tensor
    seen_items: Tensor

    def __init__(self, catalogue: Catalogue, seen: SeenItems, num_users: int, k: int) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.register_buffer("popularity", torch.bincount(seen.items, minlength=seen.num_items).float())
        # An additional user who has seen nothing stands for unknown indices.
        self.register_buffer("seen_indptr", torch.cat([seen.indptr, seen.indptr[-1:]]))
        self.register_buffer("seen_items", seen.items)
        self.num_users = num_users
        self.k = k
        self.num_ranked = min(k, seen.num_items)  # smaller than K for a small catalogue; the output has K places always
        self.lowest = torch.finfo(torch.float32).min
        self.rows_at_once = max(1, SCORES_AT_ONCE // seen.num_items)

    def rank_users(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """The items that users [B] have not seen: -> item_index and score [B, num_ranked]."""
        known = (user >= 0) & (user < self.num_users)
        if bool(known.all()):  # saves a pass over all scores
            scores = self.catalogue(user)
            row, position = seen_positions(self.seen_indptr, user)
        else:
            personal = self.catalogue(torch.where(known, user, 0))
            scores = torch.where(known.unsqueeze(1), personal, self.popularity)
            row, position = seen_positions(self.seen_indptr, torch.where(known, user, self.num_users))
        scores[row, self.seen_items[position]] = self.lowest
        score, item_index = torch.topk(scores, self.num_ranked)
        return torch.where(score == self.lowest, -1, item_index), score

    def rank_all(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """`rank_users` for any number of users: -> item_index and score [B, K]."""
        if user.size(0) <= self.rows_at_once and self.num_ranked == self.k:
            return self.rank_users(user)  # most calls: nothing is filled up or put together
        item_index = torch.full((user.size(0), self.k), -1, dtype=torch.int64, device=user.device)
        score = torch.full((user.size(0), self.k), self.lowest, dtype=torch.float32, device=user.device)
        for start in range(0, user.size(0), self.rows_at_once):
            part_item, part_score = self.rank_users(user[start : start + self.rows_at_once])
            item_index[start : start + self.rows_at_once, : self.num_ranked] = part_item
            score[start : start + self.rows_at_once, : self.num_ranked] = part_score
        return item_index, score


class TopK(Ranking):
    """`user_index` int64 [B, 1] -> item_index int64 [B, K], score [B, K], best first.

    Items that the user has seen are left out. An unknown user gets the most popular items, scored by their number of
    interactions. If fewer than K items remain, the other places have item_index -1 and the lowest float32 as score.
    """

    def forward(self, user_index: Tensor) -> tuple[Tensor, Tensor]:
        return self.rank_all(user_index.reshape(-1))


def _with_unknown_row(model: NCF) -> NCF:
    """A copy whose embedding tables have one more row, the mean of the others."""
    model = copy.deepcopy(model)
    tables = [(branch, name) for branch in model.branches for name in ("user_embedding", "item_embedding")]
    for owner, name in [*tables, (model, "item_bias")]:
        weight = getattr(owner, name).weight.detach()
        longer = torch.cat([weight, weight.mean(0, keepdim=True)])
        setattr(owner, name, nn.Embedding(longer.shape[0], longer.shape[1], _weight=longer))
    return model
