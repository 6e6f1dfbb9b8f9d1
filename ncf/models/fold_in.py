"""Fold-in: compute user embeddings from a history of items, for users who were not in the training data.

A small map computes the user embeddings of all branches. It is fitted by ridge regression on the users of the model.
Its features are the sum of the history's item rows divided by their number n (the user's taste), the same sum divided
by √n (trained embeddings grow with the number of interactions), ln n, and fixed random mixtures of these behind a ReLU
(the embeddings of an MLP are not a linear function of the taste).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad

from ncf.models.neural import Catalogue
from ncf.models.seen import SeenItems, seen_positions

MIXTURES = 256
# Ridge of feature j = var(j) · RIDGE_USERS / number of users: it does not depend on the features' scale, and is
# negligible with many users.
RIDGE_USERS = 20
# The map has thousands of coefficients, so it is fitted on at most so many users, evenly spaced.
FIT_USERS, FIT_USERS_AT_ONCE = 100_000, 1024


class ItemSum(nn.Module):
    """Sum of the rows of a table [num_items, D] over items [B, L] with weights [B, L]: -> [B, D].

    embedding_bag adds the rows as it reads them, without a tensor of B × L × D.
    """

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table.detach())

    def forward(self, item_index: Tensor, weight: Tensor) -> Tensor:
        return embedding_bag(item_index, self.table, mode="sum", per_sample_weights=weight)


class FoldIn(nn.Module):
    """`history` int64 [B, L], `present` bool [B, L] -> a user embedding [B, d] for each branch, in the model's order.

    Items that are not present, repeated or outside the catalogue are ignored. A row without any item has finite
    embeddings without a meaning. `longest` is the largest n that the map was fitted on; a larger n counts as `longest`.
    """

    mix: Tensor
    weight: Tensor

    def __init__(self, tables: list[Tensor], sizes: list[int], mix: Tensor, weight: Tensor, longest: int) -> None:
        super().__init__()
        self.sums = nn.ModuleList(ItemSum(table) for table in tables)
        self.register_buffer("mix", mix.float())
        self.register_buffer("weight", weight.float())
        self.sizes = sizes
        self.num_items = tables[0].size(0)
        self.longest = longest

    def forward(self, history: Tensor, present: Tensor) -> list[Tensor]:
        inside = present & (history >= 0) & (history < self.num_items)
        # The -1 in front keeps a column if L is 0. After sorting, repeated items are neighbours.
        item = pad(torch.where(inside, history, -1), [1, 0], value=-1.0).sort(dim=1)[0]
        once = (item >= 0) & (item != item.roll(1, dims=1))
        item, counted = item.clamp(min=0), once.to(self.weight.dtype)
        total = torch.cat([part(item, counted) for part in self.sums], dim=1)
        user = torch.matmul(mixed(features(total, once.sum(dim=1), self.longest), self.mix), self.weight)
        return list(torch.split_with_sizes(user, self.sizes, dim=1))


def features(total: Tensor, count: Tensor, longest: int) -> Tensor:
    """The features of a history from the sum of its item rows [B, D] and `count` int64 [B]: -> [B, 1 + 2 D + 1]."""
    mean = total / count.clamp(min=1).unsqueeze(1)
    n = count.clamp(min=1, max=longest).to(total.dtype).unsqueeze(1)
    return torch.cat([torch.ones_like(n), mean, mean * n.sqrt(), n.log()], dim=1)


def mixed(seen: Tensor, mix: Tensor) -> Tensor:
    """Features [B, F] beside their mixtures, by the matrix `mix` [F, M] and a ReLU: -> [B, F + M]."""
    return torch.cat([seen, torch.matmul(seen, mix).relu()], dim=1)


@torch.no_grad()
def fit_fold_in(catalogue: Catalogue, known: SeenItems) -> FoldIn:
    """Fit the map on all users with an item in `known`; the same model and items give the same map.

    The map shares the item rows with the catalogue: they are not copied.
    """
    embeddings: list[Tensor] = [part.user_embedding.weight for part in catalogue.parts]  # type: ignore[union-attr,misc]
    tables: list[Tensor] = [part.items() for part in catalogue.parts]  # type: ignore[operator]
    counts = known.counts()
    longest = int(counts.max())
    users = torch.nonzero(counts).squeeze(1)
    users = users[:: -(-len(users) // FIT_USERS)]
    generator = torch.Generator(counts.device).manual_seed(0)
    mix = random_mixtures(examples(known, users[:: -(-len(users) // FIT_USERS_AT_ONCE)], tables, longest, generator))
    moments = torch.zeros((), dtype=torch.float64, device=counts.device)
    for some in torch.split(users, FIT_USERS_AT_ONCE):
        seen = mixed(examples(known, some, tables, longest, generator), mix)
        row = torch.cat([seen, *(table[some].double().repeat(2, 1) for table in embeddings)], dim=1)
        moments = moments + row.t() @ row
    weight = ridge(moments, mix.size(0) + mix.size(1), RIDGE_USERS / len(users))
    return FoldIn(tables, [table.size(1) for table in embeddings], mix, weight, longest)


def examples(known: SeenItems, users: Tensor, tables: list[Tensor], longest: int, generator: torch.Generator) -> Tensor:
    """Features of users [B] with all their items, then with some of them: -> float64 [2 B, F].

    The lengths of the second are uniform in the logarithm, so that the map also learns from short histories.
    """
    counts = known.counts()[users]
    share = torch.rand(len(users), generator=generator, dtype=torch.float64, device=users.device)
    seen = []
    for kept in (counts, (counts.double() ** share).round().long()):
        items, begin = random_items(known, users, kept, generator), kept.cumsum(0) - kept
        total = torch.cat([embedding_bag(items, table, begin, mode="sum") for table in tables], dim=1)
        seen.append(features(total, kept, longest).double())
    return torch.cat(seen)


def random_items(known: SeenItems, users: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
    """`kept` [B] different random items of each of the users [B], user after user: -> int64 [sum of kept]."""
    row, position = seen_positions(known.indptr, users)
    random = torch.rand(len(row), generator=generator, dtype=torch.float64, device=row.device)
    position = position[(row + random).argsort()]
    counts = known.counts()[users]
    nth = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    return known.items[position[nth < kept[row]]]


def random_mixtures(seen: Tensor) -> Tensor:
    """Random mixtures [F, MIXTURES], scaled by the features [N, F]: each has deviation 1 and mean .5."""
    generator = torch.Generator(seen.device).manual_seed(0)
    mix = torch.randn(seen.size(1), MIXTURES, generator=generator, dtype=seen.dtype, device=seen.device)
    deviation, mean = torch.std_mean(seen[:, 1:], dim=0, correction=0)
    # Features constant over users get weight 0; their deviation is rounding error and must not be divided by.
    varies = deviation > 1e-4 * mean.abs()
    mix[1:] *= torch.where(varies, (seen.size(1) ** -0.5) / deviation, 0).unsqueeze(1)
    mix[0] = mix[0] / 2 - mean @ mix[1:]
    return mix


def ridge(moments: Tensor, num_features: int, penalty: float) -> Tensor:
    """Weight [F, d] from the sum of the outer products of rows (features, targets); feature 0 is 1 in every row."""
    moments = moments / moments[0, 0]
    mean = moments[0, 1:]
    covariance = moments[1:, 1:] - torch.outer(mean, mean)
    inner = num_features - 1
    system = covariance[:inner, :inner].clone()
    # A feature that is constant over users has, by rounding, a variance near ±1e-17; the bound makes its weight 0.
    system.diagonal().mul_(1 + penalty).clamp_(min=1e-12)
    weight = torch.linalg.solve(system, covariance[:inner, inner:])
    return torch.cat([(mean[inner:] - mean[:inner] @ weight).unsqueeze(0), weight])
