"""What a training learned about the values of features: rows for users and items that are new."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ncf.features.encoding import Encoding, Features, FeatureValues, SideFeatures
from ncf.models.features import FeaturedNCF, FeatureEmbedding, weighted_sums
from ncf.models.neural import NCF, SCORES_AT_ONCE

PLACES = 50  # length of the lists in which a new item gets the places of a known one
SOME_USERS = 1024
SOME_GAPS = 2**22


@dataclass(frozen=True)
class LearnedSide:
    """The encoding of users or items, and the rows of its values [num_values, size] in each table of the model."""

    encoding: Encoding
    rows: list[Tensor]

    def rows_of(self, values: FeatureValues) -> list[Tensor]:
        """The rows of new ids, in each table."""
        value, first, weight = (torch.tensor(each) for each in (values.value, values.indptr[:-1], values.weight))
        return [weighted_sums(table, value, first, weight) for table in self.rows]


@dataclass(frozen=True)
class LearnedFeatures:
    """Both sides, None for one without features; the rows of items end with those of the item bias.

    `raised` is added to the score of every new item.
    """

    users: LearnedSide | None
    items: LearnedSide | None
    raised: float

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        sides = {"users": self.users, "items": self.items}
        torch.save({
            "raised": self.raised,
            **{name: None if side is None else {"encoding": json.dumps(side.encoding.to_dict()), "rows": side.rows}
               for name, side in sides.items()},
        }, buffer)  # fmt: skip
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> LearnedFeatures:
        """What `to_bytes` wrote. Raises one of the errors of torch.load, or ValueError, LookupError or TypeError."""
        found: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        users, items = (
            None if (side := found[name]) is None
            else LearnedSide(Encoding.from_dict(json.loads(side["encoding"])), list(side["rows"]))
            for name in ("users", "items")
        )  # fmt: skip
        return cls(users, items, float(found["raised"]))


def learned(model: FeaturedNCF, features: Features) -> LearnedFeatures:
    """What a trained model learned about the values of its features."""

    def side(found: SideFeatures | None, tables: list[FeatureEmbedding]) -> LearnedSide | None:
        if found is None:
            return None
        return LearnedSide(found.encoding, [table.values.weight.detach().cpu().clone() for table in tables])

    raised = 0.0
    if features.items is not None:
        raised = raised_by(model.folded(), model.folded(items_by_features=True))
    return LearnedFeatures(side(features.users, model.user_tables), side(features.items, model.item_tables), raised)


@torch.inference_mode()
def raised_by(model: NCF, by_features: NCF) -> float:
    """What must be added to scores by features alone, so that an item gets as many places by them as by its own row.

    The places are those in the 50 best of each of some users, among all items, those that the user has included: with
    these left out the other known items have the low scores of items that were not taken, and a new item, which nobody
    could take, would be ahead of them by that alone.
    """
    whole, alone = model.catalogue(), by_features.catalogue()
    num_users, num_items = (len(model.branches[0].user_embedding.weight), len(model.item_bias.weight))  # type: ignore[union-attr,arg-type]
    places = min(PLACES, max(1, num_items // 10))
    device = model.item_bias.weight.device
    users = torch.arange(num_users, device=device)[:: -(-num_users // SOME_USERS)]
    step = -(-len(users) * num_items // SOME_GAPS)
    gaps = []
    for some in torch.split(users, max(1, SCORES_AT_ONCE // num_items)):
        last = whole(some).topk(places, dim=1).values[:, -1:]
        gaps.append((last - alone(some)[:, ::step]).flatten())
    gap = torch.cat(gaps)
    return float(gap.kthvalue(max(1, round(len(gap) * places / num_items))).values)
