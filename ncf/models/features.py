"""Side features in the models: a user or an item is its own row plus the sum of the rows of its features' values.

While training, own rows are dropped at random (DropoutNet, NIPS 2017, drops inputs in the same way), so that features
alone must carry an item too, as they do for an item that is new. After training the sums are plain rows, so that a
model with features is served as one without.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag

from ncf.features.encoding import FeatureValues
from ncf.models.neural import NCF, BRANCHES
from ncf.models.seen import seen_positions

ID_DROPOUT = 0.3  # share of items, and of users, whose own rows are left out in a step
EXPLAIN_STEPS, EXPLAIN_RIDGE = 30, 20.0


class FeatureEmbedding(nn.Module):
    """Index [...] -> own row plus the weighted sum of its values' rows, [..., size]; `kept` [n, 1] drops own rows."""

    def __init__(self, ids: nn.Embedding, values: FeatureValues) -> None:
        super().__init__()
        self.ids = ids
        self.values = nn.Embedding(values.num_values, ids.embedding_dim)
        nn.init.zeros_(self.values.weight)
        self.num_embeddings = ids.num_embeddings
        self.kept: Tensor | None = None
        for name in ("indptr", "value", "weight"):
            self.register_buffer(f"of_{name}", torch.from_numpy(getattr(values, name)), persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        if index.numel() >= self.num_embeddings:  # fewer rows to add up than asked for
            return embedding(index, self.weight)
        flat = index.reshape(-1)
        rows = self.own(self.ids(flat), flat) + self.by_features(flat)
        return rows.reshape(*index.shape, -1)

    @property
    def weight(self) -> Tensor:
        """The rows of all ids, [n, size]."""
        own = self.ids.weight if self.kept is None else self.ids.weight * self.kept
        return own + self.sums(self.values.weight)

    def sums(self, values: Tensor) -> Tensor:
        """The sums [n, size] of the rows [num_values, size] of each id's values."""
        return bag(values, self.of_value, self.of_indptr[:-1], self.of_weight)

    def transposed(self, rows: Tensor) -> Tensor:
        """The sums [num_values, size] of the rows [n, size] of the ids that have each value."""
        of_id = torch.repeat_interleave(self.of_indptr.diff())
        each = rows[of_id] * self.of_weight.unsqueeze(1)
        return torch.zeros_like(self.values.weight).index_add_(0, self.of_value, each)

    def own(self, rows: Tensor, index: Tensor) -> Tensor:
        """Own rows [B, size] of ids [B], those that are dropped as zeros."""
        return rows if self.kept is None else rows * self.kept[index]

    def by_features(self, index: Tensor) -> Tensor:
        """The sums of the values' rows of ids [B]: [B, size]."""
        row, position = seen_positions(self.of_indptr, index)
        counts = self.of_indptr[index + 1] - self.of_indptr[index]
        return bag(self.values.weight, self.of_value[position], counts.cumsum(0) - counts, self.of_weight[position])

    def drop(self, share: float) -> None:
        """Drop own rows at random until the next call; 0 keeps all."""
        self.kept = None
        if share:
            self.kept = (torch.rand(self.num_embeddings, 1, device=self.ids.weight.device) >= share).float()

    @torch.no_grad()
    def decay(self, samples: Tensor, index: Tensor | None, l2: float) -> None:
        """Add the gradient of l2 for the values' rows, as many samples as those of their ids [n], or of `index` [B]."""
        if index is not None:
            samples = torch.zeros(self.num_embeddings, device=samples.device).index_add_(0, index, samples)
        of_id = torch.repeat_interleave(samples, self.of_indptr.diff())
        of_value = torch.zeros(len(self.values.weight), device=samples.device).index_add_(
            0, self.of_value, of_id * self.of_weight**2
        )
        assert self.values.weight.grad is not None
        self.values.weight.grad.addcmul_(self.values.weight, of_value.unsqueeze(1), value=2 * l2)


def bag(table: Tensor, value: Tensor, first: Tensor, weight: Tensor) -> Tensor:
    return embedding_bag(value, table, first, mode="sum", per_sample_weights=weight)


class FeaturedNCF(NCF):
    """A model whose user or item embeddings have features; it takes over the parameters of `plain`."""

    def __init__(self, plain: NCF, users: FeatureValues | None, items: FeatureValues | None) -> None:
        nn.Module.__init__(self)
        self.branches, self.predict, self.item_bias = plain.branches, plain.predict, plain.item_bias
        for branch in self.branches:
            if users is not None:
                branch.user_embedding = FeatureEmbedding(branch.user_embedding, users)  # type: ignore[arg-type]
            if items is not None:
                branch.item_embedding = FeatureEmbedding(branch.item_embedding, items)  # type: ignore[arg-type]
        if items is not None:
            self.item_bias = FeatureEmbedding(self.item_bias, items)  # type: ignore[assignment]
            self.item_bias.requires_grad_(True)
            explain(self.item_bias)

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        self.drop()
        return super().forward(user_index, item_index)

    def of_users(self, rows: list[Tensor], user_index: Tensor) -> list[Tensor]:
        """Embeddings of users [B] from their own rows, one for each branch, to be given to `against_all`."""
        self.drop()
        tables = [branch.user_embedding for branch in self.branches]
        return [
            table.own(row, user_index) + table.by_features(user_index) if isinstance(table, FeatureEmbedding) else row
            for table, row in zip(tables, rows, strict=True)
        ]

    def drop(self) -> None:
        """Drop own rows for a step of training, the same in all tables; none in an evaluation."""
        for tables in (self.user_tables(), self.item_tables()):
            for number, table in enumerate(tables):
                if number == 0:
                    table.drop(ID_DROPOUT if self.training else 0.0)
                table.kept = tables[0].kept

    def user_tables(self) -> list[FeatureEmbedding]:
        return _featured([branch.user_embedding for branch in self.branches])

    def item_tables(self) -> list[FeatureEmbedding]:
        """Those of the branches, and last that of the item bias; empty without features of items."""
        return _featured([*(branch.item_embedding for branch in self.branches), self.item_bias])

    def decay(self, user_index: Tensor, user_samples: Tensor, item_samples: Tensor, l2: float) -> None:
        """Add the gradient of l2 for the rows of all values, but for those of the bias."""
        for table in self.user_tables():
            table.decay(user_samples, user_index, l2)
        for table in self.item_tables()[:-1]:
            table.decay(item_samples, None, l2)


def _featured(tables: list[nn.Module]) -> list[FeatureEmbedding]:
    return [table for table in tables if isinstance(table, FeatureEmbedding)]


def ids_of(table: nn.Module) -> Tensor:
    """The rows of the ids themselves."""
    rows: Tensor = (table.ids if isinstance(table, FeatureEmbedding) else table).weight  # type: ignore[assignment,union-attr]
    return rows


@torch.no_grad()
def explain(table: FeatureEmbedding) -> None:
    """Give the values' rows what they explain of the ids' rows, by ridge regression, and leave the ids the rest.

    Solved by conjugate gradients, which needs no matrix of values × values.
    """
    rows, solution = table.ids.weight, table.values.weight.zero_()
    rest = table.transposed(rows)
    direction, size = rest.clone(), rest.square().sum()
    for _ in range(EXPLAIN_STEPS):
        image = table.transposed(table.sums(direction)) + EXPLAIN_RIDGE * direction
        step = size / (direction * image).sum().clamp(min=1e-12)
        solution += step * direction
        rest -= step * image
        before, size = size, rest.square().sum()
        direction = rest + size / before.clamp(min=1e-12) * direction
    rows -= table.sums(solution)
