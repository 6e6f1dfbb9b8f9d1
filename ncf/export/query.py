"""The exported module that ranks the whole catalogue: for a user, a history or an item, and under conditions.

Like those in `modules.py` it is scriptable, contains no device, and is defined for any int64.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from ncf.export.modules import Ranking
from ncf.models.neural import Catalogue
from ncf.models.seen import SeenItems, seen_positions


class Query(Ranking):
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

    The columns with one value an item come first, then those in which an item may have several codes. In both, the code
    of the items without a value is -1.

    A row of any other kind is ignored, so shorter queries are padded with zeros. An unknown value is ignored, too: a
    query without a known user, history or item gets the most popular items. If fewer than K items remain, the other
    places have item_index -1 and the lowest float32 as score.

    A batch whose queries have a USER row first and zeros after it takes a path of its own, as fast as `TopK` and with
    the same scores.
    """

    # `serve/recommend/plan.py` writes the same numbers; a test compares the two.
    USER: Final[int] = 1
    HISTORY: Final[int] = 2
    SIMILAR: Final[int] = 3
    ALLOW: Final[int] = 4
    EXCLUDE: Final[int] = 5
    INCLUDE_SEEN: Final[int] = 6
    WHERE: Final[int] = 16

    per_length: Tensor
    codes: Tensor
    value_indptr: Tensor
    value_items: Tensor
    num_values: list[int]

    def __init__(
        self,
        catalogue: Catalogue,
        fold_in: nn.Module,
        seen: SeenItems,
        num_users: int,
        k: int,
        codes: Tensor,
        several: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        """`codes` int64 [C, num_items]: each item's code in each column with one value an item, -1 for no value.

        `several` has for each other column the items of its values as CSR, indptr int64 [num_values + 2] and distinct
        items int64 [N]; the first row are the items without a value.
        """
        super().__init__(catalogue, seen, num_users, k)
        self.fold_in = fold_in
        self.register_buffer("codes", codes)
        # One CSR for all columns. An additional value that no item has stands for unknown codes.
        counts = [indptr.diff() for indptr, _ in several]
        self.num_values = [len(count) for count in counts]
        nobodys = torch.zeros(1, dtype=torch.int64)
        self.register_buffer("value_indptr", torch.cat([nobodys, *counts, nobodys]).cumsum(0))
        self.register_buffer("value_items", torch.cat([nobodys[:0], *(items for _, items in several)]))
        squares = torch.zeros(seen.num_items)
        for part in catalogue.parts:
            squares += part.items().pow(2).sum(1)  # type: ignore[operator]
        self.register_buffer("per_length", squares.sqrt().clamp(min=1e-12).reciprocal())
        self.num_items = seen.num_items

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        only_users = query.size(1) > 0 and bool((query[:, 0, 0] == self.USER).all())
        if only_users and query.size(1) > 1:
            only_users = not bool(query[:, 1:, 0].any())
        if only_users:
            return self.rank_all(query[:, 0, 1])
        item_index = torch.full((query.size(0), self.k), -1, dtype=torch.int64, device=query.device)
        score = torch.full((query.size(0), self.k), self.lowest, dtype=torch.float32, device=query.device)
        for start in range(0, query.size(0), self.rows_at_once):
            part = query[start : start + self.rows_at_once]
            part_item, part_score = self.rank(part[:, :, 0], part[:, :, 1])
            item_index[start : start + self.rows_at_once, : self.num_ranked] = part_item
            score[start : start + self.rows_at_once, : self.num_ranked] = part_score
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
        start = 0
        for number, num_values in enumerate(self.num_values):
            conditions = kind == self.WHERE + self.codes.size(0) + number
            asked = conditions.any(1)
            if bool(asked.any()):
                wanted = torch.where(conditions, value, nobody - 1).amax(1)
                known = (wanted >= -1) & (wanted < num_values - 1)
                row, position = seen_positions(
                    self.value_indptr, torch.where(known, wanted + start + 1, self.value_indptr.size(0) - 2)
                )
                fits = torch.zeros_like(scores, dtype=torch.bool)
                fits[row, self.value_items[position]] = True
                scores = torch.where(fits | (~asked).unsqueeze(1), scores, self.lowest)
            start += num_values

        score, item_index = torch.topk(scores, self.num_ranked)
        return torch.where(score == self.lowest, -1, item_index), score
