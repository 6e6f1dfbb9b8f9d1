"""Side features in the models: a user or an item is its own row plus the sum of the rows of its features' values.

While training, own rows are left out at random, so that features alone must carry an item too, as they do for an item
that is new (DropoutNet, NIPS 2017, does so with the inputs of a network). After training the sums become plain rows, so
that a model with features is served as one without.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag

from ncf.features.encoding import FeatureValues
from ncf.models.neural import NCF
from ncf.models.seen import seen_positions

# Shares of items and of users whose own rows are left out in a step. A new user has a history to be folded in by, and
# features of people say little: a larger share costs the known users more than it gives to new ones (docs/log.md).
ITEM_DROPOUT, USER_DROPOUT = 0.1, 0.05
# A value's row has the l2 of so many mean items or users. The same for every value, so that the rows of rare values,
# such as most words, stay near zero.
PRIOR = 20.0
EXPLAIN_STEPS, EXPLAIN_RIDGE = 30, 20.0


class FeatureEmbedding(nn.Module):
    """Index [...] -> own row plus the weighted sum of its values' rows, [..., size]; `kept` [n, 1] drops own rows."""

    of_indptr: Tensor
    of_value: Tensor
    of_weight: Tensor

    def __init__(self, ids: nn.Embedding, values: FeatureValues) -> None:
        super().__init__()
        self.ids = ids
        self.values = nn.Embedding(values.num_values, ids.embedding_dim)
        nn.init.zeros_(self.values.weight)
        self.num_embeddings = ids.num_embeddings
        self.kept: Tensor | None = None
        for name in ("indptr", "value", "weight"):
            self.register_buffer(f"of_{name}", torch.tensor(getattr(values, name)), persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        if index.numel() >= self.num_embeddings:  # fewer rows to add up than are asked for
            return embedding(index, self.weight)
        flat = index.reshape(-1)
        return self.of(self.ids(flat), flat).reshape(*index.shape, -1)

    @property
    def weight(self) -> Tensor:
        """The rows of all ids, [n, size]."""
        own = self.ids.weight if self.kept is None else self.ids.weight * self.kept
        return own + self.sums(self.values.weight)

    def of(self, rows: Tensor, index: Tensor) -> Tensor:
        """The rows of ids [B] from their own rows [B, size]."""
        own = rows if self.kept is None else rows * self.kept[index]
        _, position = seen_positions(self.of_indptr, index)
        counts = self.of_indptr[index + 1] - self.of_indptr[index]
        first = counts.cumsum(0) - counts
        return own + weighted_sums(self.values.weight, self.of_value[position], first, self.of_weight[position])

    def sums(self, values: Tensor) -> Tensor:
        """The sums [n, size] of the rows [num_values, size] of each id's values."""
        return weighted_sums(values, self.of_value, self.of_indptr[:-1], self.of_weight)

    def transposed_sums(self, rows: Tensor) -> Tensor:
        """The sums [num_values, size] of the rows [n, size] of the ids that have each value."""
        of_id = torch.repeat_interleave(self.of_indptr.diff())
        each = rows[of_id] * self.of_weight.unsqueeze(1)
        return torch.zeros_like(self.values.weight).index_add_(0, self.of_value, each)


class FeaturedNCF(NCF):
    """A model whose users or items have features; it takes over the parameters of `plain`.

    With features of items the item bias is trained in every way of training: it is the linear term of the features.
    """

    def __init__(self, plain: NCF, users: FeatureValues | None, items: FeatureValues | None) -> None:
        nn.Module.__init__(self)
        self.branches, self.predict, self.item_bias = plain.branches, plain.predict, plain.item_bias
        for branch in self.branches:
            if users is not None:
                branch.user_embedding = FeatureEmbedding(branch.user_embedding, users)  # type: ignore[arg-type]
            if items is not None:
                branch.item_embedding = FeatureEmbedding(branch.item_embedding, items)  # type: ignore[arg-type]
        if items is not None:
            bias = FeatureEmbedding(self.item_bias, items)
            explain(bias)
            self.item_bias = bias.requires_grad_(True)  # type: ignore[assignment]

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        self.drop()
        return super().forward(user_index, item_index)

    def of_users(self, rows: list[Tensor], user_index: Tensor) -> list[Tensor]:
        """What a step gives to `against_all`: embeddings of users [B] from their own rows, for each branch."""
        self.drop()
        tables = [branch.user_embedding for branch in self.branches]
        return [
            table.of(row, user_index) if isinstance(table, FeatureEmbedding) else row
            for table, row in zip(tables, rows, strict=True)
        ]

    def drop(self) -> None:
        """Drop own rows for a step of training, the same in all tables; none in an evaluation."""
        for tables, share in ((self.user_tables, USER_DROPOUT), (self.item_tables, ITEM_DROPOUT)):
            kept = None
            if tables and self.training:
                like = tables[0].ids.weight
                kept = (torch.rand(len(like), 1, device=like.device) >= share).to(like.dtype)
            for table in tables:
                table.kept = kept

    @property
    def user_tables(self) -> list[FeatureEmbedding]:
        """One for each branch; empty without features of users."""
        return _featured([branch.user_embedding for branch in self.branches])  # type: ignore[misc]

    @property
    def item_tables(self) -> list[FeatureEmbedding]:
        """One for each branch, and that of the item bias; empty without features of items."""
        return _featured([*(branch.item_embedding for branch in self.branches), self.item_bias])  # type: ignore[list-item]

    @torch.no_grad()
    def decay(self, user_samples: Tensor, item_samples: Tensor, l2: float) -> None:
        """Add the gradient of l2 for the rows of the values: see PRIOR. The samples are of users [B] and items."""
        some_users = [(table, user_samples.sum() / table.num_embeddings) for table in self.user_tables]
        for table, samples in some_users + [(table, item_samples.mean()) for table in self.item_tables]:
            rows = table.values.weight
            assert rows.grad is not None
            rows.grad.add_(rows * samples, alpha=2 * PRIOR * l2)

    @torch.no_grad()
    def folded(self, items_by_features: bool = False) -> NCF:
        """The same model with plain rows; or that in which items have the sums of their features alone."""
        model = copy.deepcopy(self)
        model.eval().drop()
        for table in model.item_tables if items_by_features else []:
            table.ids.weight.zero_()
        for branch in model.branches:
            for name in ("user_embedding", "item_embedding"):
                setattr(branch, name, _plain(getattr(branch, name)))
        plain = NCF.__new__(NCF)
        nn.Module.__init__(plain)
        plain.branches, plain.predict, plain.item_bias = model.branches, model.predict, _plain(model.item_bias)
        return plain.eval()


def weighted_sums(table: Tensor, value: Tensor, first: Tensor, weight: Tensor) -> Tensor:
    """Sums [B, size] of the rows of `value` [N] with their weights [N]; `first` [B] is where each sum begins."""
    return embedding_bag(value, table, first, mode="sum", per_sample_weights=weight)


def ids_of(table: nn.Module) -> Tensor:
    """The rows of the ids themselves, without features."""
    found: Tensor = (table.ids if isinstance(table, FeatureEmbedding) else table).weight  # type: ignore[assignment]
    return found


def _featured(tables: list[nn.Module]) -> list[FeatureEmbedding]:
    return [table for table in tables if isinstance(table, FeatureEmbedding)]


def _plain(table: nn.Module) -> nn.Embedding:
    assert isinstance(table, FeatureEmbedding | nn.Embedding)
    weight = table.weight.detach().clone()
    return nn.Embedding(weight.shape[0], weight.shape[1], _weight=weight)


@torch.no_grad()
def explain(table: FeatureEmbedding) -> None:
    """Give the values' rows what they explain of the ids' rows, by ridge regression, and leave the ids the rest.

    Solved by conjugate gradients, which needs no matrix of values × values.
    """
    rows, solution = table.ids.weight, table.values.weight.zero_()
    rest = table.transposed_sums(rows)
    direction, size = rest.clone(), rest.square().sum()
    for _ in range(EXPLAIN_STEPS):
        image = table.transposed_sums(table.sums(direction)) + EXPLAIN_RIDGE * direction
        step = size / (direction * image).sum().clamp(min=1e-12)
        solution += step * direction
        rest -= step * image
        before, size = size, rest.square().sum()
        direction = rest + size / before.clamp(min=1e-12) * direction
    rows -= table.sums(solution)
