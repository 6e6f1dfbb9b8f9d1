"""GMF, MLP and NeuMF of "Neural Collaborative Filtering" (arXiv 1708.05031).

Every model has branches and one prediction layer: `forward(user_index, item_index) -> score`, a logit. The shapes of
the indices broadcast: with users [B, 1] and items [B, C] each user is looked up once. `catalogue()` gives the same
scores for users against all items; it precomputes everything that does not depend on the user.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

# Most floats of an intermediate tensor of a catalogue pass. 1 MB stays in a core's own cache: a batch of 2 to 64 users
# takes 14-25 % less time than with 4 MB, one user alone 2-7 % more (docs/log.md).
BLOCK_FLOATS = 2**18
# Most scores of users against all items in memory at a time: 64 MB of float32.
SCORES_AT_ONCE = 2**24
PRETRAINED_SHARE = 0.5  # of each pretrained branch in the prediction (paper, section 3.4.1)
# The branches of each model.
BRANCHES = {"gmf": ("gmf",), "mlp": ("mlp",), "neumf": ("gmf", "mlp")}


class GMFBranch(nn.Module):
    """Elementwise product of user and item factors (paper, section 3.2): index [...] -> [..., num_factors]."""

    def __init__(self, num_users: int, num_items: int, num_factors: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(num_users, num_factors)
        self.item_embedding = nn.Embedding(num_items, num_factors)
        self.dropout = nn.Dropout(dropout)
        self.num_outputs = num_factors

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        product: Tensor = self.dropout(self.user_embedding(user_index)) * self.item_embedding(item_index)
        return product

    def against_all(self, user: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """User embeddings [B, num_factors] and prediction weights -> scores [B, num_items], added to `bias`."""
        return torch.addmm(bias, self.dropout(user) * weight, self.item_embedding.weight.t())


class MLPBranch(nn.Module):
    """Tower over user and item embeddings (paper, section 3.3): index [...] -> [..., num_factors].

    Each hidden layer is half as wide as the one before, down to num_factors: 32 → 16 → 8 for 8 factors and 3 layers,
    with embeddings of 16. The first layer is split into a user half and an item half, which is the same function as one
    layer over the concatenation.
    """

    def __init__(self, num_users: int, num_items: int, num_factors: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        sizes = [num_factors * 2**power for power in reversed(range(num_layers))]
        embedding_size = max(1, sizes[0] // 2)
        self.user_embedding = nn.Embedding(num_users, embedding_size)
        self.item_embedding = nn.Embedding(num_items, embedding_size)
        self.user_half = nn.Linear(embedding_size, sizes[0])
        self.item_half = nn.Linear(embedding_size, sizes[0], bias=False)
        rest: list[nn.Module] = [nn.ReLU()]
        for fan_in, fan_out in pairwise(sizes):
            rest += [nn.Dropout(dropout), nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.rest = nn.Sequential(*rest)
        self.num_outputs = num_factors

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        user = self.user_half(self.user_embedding(user_index))
        output: Tensor = self.rest(user + self.item_half(self.item_embedding(item_index)))
        return output

    def against_all(self, user: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """User embeddings [B, embedding_size] and prediction weights -> scores [B, num_items], added to `bias`."""
        item = self.item_half(self.item_embedding.weight)
        output: Tensor = self.rest(self.user_half(user).unsqueeze(1) + item)
        return torch.matmul(output, weight) + bias


class NCF(nn.Module):
    """Branches side by side, one linear prediction layer on top of their outputs (paper, section 3.4).

    `item_bias` [num_items, 1] is added to the score; only exact training and folding set it, else it is zero.
    """

    def __init__(self, branches: list[GMFBranch | MLPBranch]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.predict = nn.Linear(sum(branch.num_outputs for branch in branches), 1)
        self.item_bias = nn.Embedding(branches[0].item_embedding.num_embeddings, 1)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.05)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.item_bias.weight)
        self.item_bias.requires_grad_(False)

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        outputs = [branch(user_index, item_index) for branch in self.branches]
        output = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
        score: Tensor = self.predict(output) + self.item_bias(item_index)
        return score.squeeze(-1)

    def against_all(self, users: list[Tensor]) -> Tensor:
        """Scores [B, num_items] of users given by an embedding for each branch; equal to `forward`, with gradients."""
        weights = torch.split(self.predict.weight[0], [branch.num_outputs for branch in self.branches])  # type: ignore[misc]
        score = self.predict.bias + self.item_bias.weight[:, 0]
        for branch, user, weight in zip(self.branches, users, weights, strict=True):
            assert isinstance(branch, GMFBranch | MLPBranch)
            score = branch.against_all(user, weight, score)
        return score

    def catalogue(self) -> "Catalogue":
        """A frozen module that scores users [B] against all items: -> [B, num_items], equal to `forward`."""
        parts: list[nn.Module] = []
        start = 0
        with torch.no_grad():
            for branch in self.branches:
                assert isinstance(branch, GMFBranch | MLPBranch)
                weight = self.predict.weight[0, start : start + branch.num_outputs]
                start += branch.num_outputs
                if isinstance(branch, GMFBranch):
                    parts.append(GMFCatalogue(branch, weight))
                else:
                    parts.append(MLPCatalogue(branch, weight))
            return Catalogue(parts, self.predict.bias + self.item_bias.weight[:, 0]).eval()


class GMFCatalogue(nn.Module):
    """GMF against all items as one matrix product: the prediction weights are folded into the item factors.

    User embeddings [B, num_factors] -> scores [B, num_items].
    """

    item_factors: Tensor

    def __init__(self, branch: GMFBranch, weight: Tensor) -> None:
        super().__init__()
        self.user_embedding = branch.user_embedding
        self.register_buffer("item_factors", branch.item_embedding.weight * weight)

    def forward(self, user: Tensor) -> Tensor:
        return torch.matmul(user, self.item_factors.t())

    def items(self) -> Tensor:
        return self.item_factors


class MLPCatalogue(nn.Module):
    """The tower against all items, the item half of its first layer computed once.

    User embeddings [B, embedding_size] -> scores [B, num_items]. Items are processed in blocks, so that an intermediate
    tensor [B, block, hidden] fits into the cache for any catalogue.
    """

    item_hidden: Tensor
    weight: Tensor

    def __init__(self, branch: MLPBranch, weight: Tensor) -> None:
        super().__init__()
        self.user_embedding = branch.user_embedding
        self.user_half = branch.user_half
        self.rest = branch.rest
        self.register_buffer("item_hidden", branch.item_half(branch.item_embedding.weight))
        self.register_buffer("weight", weight.clone())
        self.block_floats = BLOCK_FLOATS

    def forward(self, user: Tensor) -> Tensor:
        user = self.user_half(user).unsqueeze(1)
        num_items, hidden = self.item_hidden.size(0), self.item_hidden.size(1)
        block = max(1, self.block_floats // (max(1, user.size(0)) * hidden))
        score = torch.empty((user.size(0), num_items), dtype=user.dtype, device=user.device)
        for start in range(0, num_items, block):
            item = self.item_hidden[start : start + block]
            score[:, start : start + block] = torch.matmul(self.rest(user + item), self.weight)
        return score

    def items(self) -> Tensor:
        return self.item_hidden


class Catalogue(nn.Module):
    """Users against all items: `forward(user_index [B]) -> [B, num_items]`, the sum of the branches' scores."""

    bias: Tensor

    def __init__(self, parts: list[nn.Module], bias: Tensor) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.register_buffer("bias", bias)

    def forward(self, user_index: Tensor) -> Tensor:
        return self.scores(self.embeddings(user_index))

    def embeddings(self, user_index: Tensor) -> list[Tensor]:
        """The users' embeddings in each branch, [B, size in that branch]."""
        found: list[Tensor] = []
        for part in self.parts:
            found.append(part.user_embedding(user_index))  # type: ignore[operator]
        return found

    def scores(self, user: list[Tensor]) -> Tensor:
        """Scores [B, num_items] of users who are given by one embedding for each branch."""
        score = self.bias
        for number, part in enumerate(self.parts):
            # In place: another tensor of all scores costs as much as the product of a GMF.
            score = part(user[number]).add_(score)
        return score

    def likeness(self, item_index: Tensor) -> Tensor:
        """Products [B, num_items] of items' representations with those of all items.

        The representation of an item is its factors in GMF, and its half of the first layer in the MLP.
        """
        like = torch.zeros((1, 1), dtype=self.bias.dtype, device=self.bias.device)
        for part in self.parts:
            like = like + torch.matmul(part.items()[item_index], part.items().t())  # type: ignore[operator]
        return like


def build_model(
    name: str, num_users: int, num_items: int, num_factors: int, num_layers: int = 3, dropout: float = 0.0
) -> NCF:
    """A new model by its name: gmf, mlp or neumf."""
    if name not in BRANCHES:
        raise ValueError(f"no model is called '{name}'; there are {', '.join(BRANCHES)}")
    branches: list[GMFBranch | MLPBranch] = []
    if "gmf" in BRANCHES[name]:
        branches.append(GMFBranch(num_users, num_items, num_factors, dropout))
    if "mlp" in BRANCHES[name]:
        branches.append(MLPBranch(num_users, num_items, num_factors, num_layers, dropout))
    return NCF(branches)


@torch.no_grad()
def joined(neumf: NCF, gmf: NCF, mlp: NCF) -> NCF:
    """A NeuMF whose score is half the score of a GMF plus half the score of an MLP."""
    shares = [PRETRAINED_SHARE * model.predict.weight for model in (gmf, mlp)]
    for target, model in zip(neumf.branches, (gmf, mlp), strict=True):
        target.load_state_dict(model.branches[0].state_dict())
    neumf.predict.weight.copy_(torch.cat(shares, dim=1))
    neumf.predict.bias.copy_(PRETRAINED_SHARE * (gmf.predict.bias + mlp.predict.bias))
    neumf.item_bias.weight.copy_(PRETRAINED_SHARE * (gmf.item_bias.weight + mlp.item_bias.weight))
    return neumf
