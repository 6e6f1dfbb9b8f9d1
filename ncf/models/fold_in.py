"""Fold-in: user embeddings from a history of items, for users the model was not trained with.

One small map gives the user embeddings of all branches at once, fitted in closed form on the users the model does know.
It sees the sum of the history's item rows divided by their number n (what the user likes), the same divided by √n
(trained embeddings grow with the evidence), ln n, and fixed random mixtures of these behind a ReLU: the tower of an MLP
bends, and so does the way from tastes to its user embeddings. Ridge regression does the rest.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad

from ncf.models.neural import Catalogue
from ncf.models.seen import SeenItems, seen_positions

MIXTURES = 256
# Strength of the ridge penalty: each feature's variance counts as if there were this many users more. In variances, it
# does not depend on the scale of an item table; in users, it fades where there is plenty of data.
RIDGE_USERS = 20
# Users to fit on at the most, evenly spaced: the map has thousands of coefficients, not millions.
FIT_USERS, FIT_USERS_AT_ONCE = 100_000, 1024


class ItemSum(nn.Module):
    """Sum of the rows of a table [num_items, D] over items [B, L] with weights [B, L]: -> [B, D].

    The bag operator adds as it reads: there is never a tensor of B × L × D.
    """

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table.detach())

    def forward(self, item_index: Tensor, weight: Tensor) -> Tensor:
        return embedding_bag(item_index, self.table, mode="sum", per_sample_weights=weight)


class FoldIn(nn.Module):
    """`history` int64 [B, L], `present` bool [B, L] -> a user embedding [B, d] for each branch, in the model's order.

    What is not present, repeated or outside the catalogue does not count; a row without any item has finite embeddings
    that mean nothing. `longest` is the largest n the map was fitted on; beyond it, an embedding stops growing.
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
        # One -1 stands first at least, also where L is 0; sorted, repetitions stand side by side.
        item = pad(torch.where(inside, history, -1), [1, 0], value=-1.0).sort(dim=1)[0]
        once = (item >= 0) & (item != item.roll(1, dims=1))
        item, counted = item.clamp(min=0), once.to(self.weight.dtype)
        total = torch.cat([part(item, counted) for part in self.sums], dim=1)
        user = torch.matmul(mixed(features(total, once.sum(dim=1), self.longest), self.mix), self.weight)
        return list(torch.split_with_sizes(user, self.sizes, dim=1))


def features(total: Tensor, count: Tensor, longest: int) -> Tensor:
    """What a history says, from the sum of its item rows [B, D] and `count` int64 [B]: -> [B, 1 + 2 D + 1]."""
    mean = total / count.clamp(min=1).unsqueeze(1)
    n = count.clamp(min=1, max=longest).to(total.dtype).unsqueeze(1)
    return torch.cat([torch.ones_like(n), mean, mean * n.sqrt(), n.log()], dim=1)


def mixed(seen: Tensor, mix: Tensor) -> Tensor:
    """Features [B, F], and their mixtures [F, M] behind a ReLU: -> [B, F + M]."""
    return torch.cat([seen, torch.matmul(seen, mix).relu()], dim=1)


@torch.no_grad()
def fit_fold_in(catalogue: Catalogue, known: SeenItems) -> FoldIn:
    """Fit the map on all users with an item in `known`; the same model and items give the same map.

    The item rows it sums are the catalogue's own, shared with it and not copied.
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

    From the second, of lengths uniform in the logarithm, the map learns how little a short history says.
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
    """`kept` [B] different items of each of the users [B], one user after the other: -> int64 [sum of kept]."""
    row, position = seen_positions(known.indptr, users)
    random = torch.rand(len(row), generator=generator, dtype=torch.float64, device=row.device)
    position = position[(row + random).argsort()]
    counts = known.counts()[users]
    nth = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    return known.items[position[nth < kept[row]]]


def random_mixtures(seen: Tensor) -> Tensor:
    """Mixtures [F, MIXTURES] of features [N, F] as these are spread: about standard normal, and shifted by about .5."""
    generator = torch.Generator(seen.device).manual_seed(0)
    mix = torch.randn(seen.size(1), MIXTURES, generator=generator, dtype=seen.dtype, device=seen.device)
    deviation, mean = torch.std_mean(seen[:, 1:], dim=0, correction=0)
    varies = deviation > 1e-4 * mean.abs()  # what is the same for all users is no news, and its deviation is rounding
    mix[1:] *= torch.where(varies, (seen.size(1) ** -0.5) / deviation, 0).unsqueeze(1)
    mix[0] = mix[0] / 2 - mean @ mix[1:]
    return mix


def ridge(moments: Tensor, num_features: int, penalty: float) -> Tensor:
    """Weight [F, d] from the sum of the outer products of rows (features, targets); feature 0 is 1 in all of them."""
    moments = moments / moments[0, 0]
    mean = moments[0, 1:]
    covariance = moments[1:, 1:] - torch.outer(mean, mean)
    inner = num_features - 1
    system = covariance[:inner, :inner].clone()
    # Rounding may leave a feature that is the same for all users a variance of about -1e-17: its weight is to be 0.
    system.diagonal().mul_(1 + penalty).clamp_(min=1e-12)
    weight = torch.linalg.solve(system, covariance[:inner, inner:])
    return torch.cat([(mean[inner:] - mean[:inner] @ weight).unsqueeze(0), weight])
