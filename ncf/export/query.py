"""The third exported module: it ranks the whole catalogue under conditions, for a user, a history or an item.

Like the other two it is scriptable, contains no device, and is defined for any int64.
"""

from typing import Final

import torch
from torch import Tensor, nn

from ncf.models.neural import SCORES_AT_ONCE, Catalogue
from ncf.models.seen import SeenItems, seen_positions


class Query(nn.Module):
    """`query` int64 [B, L, 2], L rows (kind, value) -> item_index int64 [B, K], score [B, K], best first.

    | kind         | value                | meaning                                                              |
    |--------------|----------------------|----------------------------------------------------------------------|
    | USER         | a user_index         | rank for this user, and leave out the items that the user has seen   |
    | HISTORY      | an item_index        | rank for a new user who has seen this item and those of the other    |
    |              |                      | HISTORY rows, and leave these items out                              |
    | SIMILAR      | an item_index        | rank by the cosine to this item's representation, and leave it out   |
    | ALLOW        | an item_index        | return only items that have an ALLOW row                             |
    | EXCLUDE      | an item_index        | leave this item out                                                  |
    | INCLUDE_SEEN | anything             | do not leave out seen items                                          |
    | WHERE + c    | a code of column c   | return only items with this code in column c                         |

    A row of any other kind is ignored, so shorter queries are padded with zeros. An unknown value is ignored, too: a
    query without a known user, history or item gets the most popular items. If fewer than K items remain, the other
    places have item_index -1 and the lowest float32 as score.
    """

    # `serve/recommend/plan.py` writes the same numbers; a test compares the two.
    USER: Final[int] = 1
    HISTORY: Final[int] = 2
    SIMILAR: Final[int] = 3
    ALLOW: Final[int] = 4
    EXCLUDE: Final[int] = 5
    INCLUDE_SEEN: Final[int] = 6
    WHERE: Final[int] = 16

    popularity: Tensor
    seen_indptr: Tensor
    seen_items: Tensor
    per_length: Tensor
    codes: Tensor

    def __init__(
        self, catalogue: Catalogue, fold_in: nn.Module, seen: SeenItems, num_users: int, k: int, codes: Tensor
    ) -> None:
        """`codes` int64 [C, num_items]: each item's code in each column of its metadata, -1 for no value."""
        super().__init__()
        self.catalogue = catalogue
        self.fold_in = fold_in
        self.register_buffer("popularity", torch.bincount(seen.items, minlength=seen.num_items).float())
        # An additional user who has seen nothing stands for queries without a user.
        self.register_buffer("seen_indptr", torch.cat([seen.indptr, seen.indptr[-1:]]))
        self.register_buffer("seen_items", seen.items)
        self.register_buffer("codes", codes)
        squares = torch.zeros(seen.num_items)
        for part in catalogue.parts:
            squares += part.items().pow(2).sum(1)  # type: ignore[operator]
        self.register_buffer("per_length", squares.sqrt().clamp(min=1e-12).reciprocal())
        self.num_users = num_users
        self.num_items = seen.num_items
        self.k = k
        self.num_ranked = min(k, seen.num_items)
        self.lowest = torch.finfo(torch.float32).min
        self.queries_at_once = max(1, SCORES_AT_ONCE // seen.num_items)

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        item_index = torch.full((query.size(0), self.k), -1, dtype=torch.int64, device=query.device)
        score = torch.full((query.size(0), self.k), self.lowest, dtype=torch.float32, device=query.device)
        for start in range(0, query.size(0), self.queries_at_once):
            part = query[start : start + self.queries_at_once]
            part_item, part_score = self.rank(part[:, :, 0], part[:, :, 1])
            item_index[start : start + self.queries_at_once, : self.num_ranked] = part_item
            score[start : start + self.queries_at_once, : self.num_ranked] = part_score
        return item_index, score

    def rank(self, kind: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Kinds and values [B, L] -> item_index and score [B, K]."""
        nobody = torch.full_like(value, -1)
        is_item = (value >= 0) & (value < self.num_items)
        item = torch.where(is_item, value, 0)
        is_user = (kind == self.USER) & (value >= 0) & (value < self.num_users)
        user = torch.where(is_user, value, nobody).amax(1)
        in_history = (kind == self.HISTORY) & is_item
        similar = torch.where((kind == self.SIMILAR) & is_item, value, nobody).amax(1)

        scores = self.popularity.repeat(kind.size(0), 1)
        by_user = torch.nonzero(user >= 0).squeeze(1)
        if by_user.size(0) > 0:
            scores[by_user] = self.catalogue(user[by_user])
        by_history = torch.nonzero(in_history.any(1)).squeeze(1)
        if by_history.size(0) > 0:
            scores[by_history] = self.catalogue.scores(self.fold_in(item[by_history], in_history[by_history]))
        by_item = torch.nonzero(similar >= 0).squeeze(1)
        if by_item.size(0) > 0:
            alike = self.catalogue.likeness(similar[by_item]) * self.per_length
            scores[by_item] = alike * self.per_length[similar[by_item]].unsqueeze(1)

        hides_seen = ~(kind == self.INCLUDE_SEEN).any(1)
        row, position = seen_positions(self.seen_indptr, torch.where(hides_seen & (user >= 0), user, self.num_users))
        scores[row, self.seen_items[position]] = self.lowest
        left_out = (((kind == self.SIMILAR) | (kind == self.EXCLUDE)) & is_item) | (
            in_history & hides_seen.unsqueeze(1)
        )
        place = torch.nonzero(left_out)
        scores[place[:, 0], item[left_out]] = self.lowest

        limited = (kind == self.ALLOW).any(1)
        if bool(limited.any()):
            allowed = (~limited).unsqueeze(1).repeat(1, self.num_items)
            named = (kind == self.ALLOW) & is_item
            allowed[torch.nonzero(named)[:, 0], item[named]] = True
            scores = torch.where(allowed, scores, self.lowest)
        for number in range(self.codes.size(0)):
            conditions = kind == self.WHERE + number
            asked = conditions.any(1)
            if bool(asked.any()):
                wanted = torch.where(conditions, value, nobody - 1).amax(
                    1
                )  # -1 is the code of an item without a value, so a row without this condition has -2
                fits = self.codes[number].unsqueeze(0) == wanted.unsqueeze(1)
                scores = torch.where(fits | (~asked).unsqueeze(1), scores, self.lowest)

        score, item_index = torch.topk(scores, self.num_ranked)
        return torch.where(score == self.lowest, -1, item_index), score
