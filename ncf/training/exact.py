"""Exact training: the loss over all cells of the matrix, without sampling.

Sampled training draws w unseen items for each positive. A user who has seen n of I items then meets each of the I - n
other items c = w n / (I - n) times an epoch in the mean, so that

    loss(u) = sum over seen i of x softplus(-z) + sum over unseen i of c softplus(z),   z the score of (u, i)

is the expectation of the sampled loss (arXiv 1708.05031, eq. 7), and its gradient the expectation of the gradient. If
negatives are drawn among all items, seen ones included, c is w n / I in every cell, in addition to the cost of the seen
ones. If they are drawn by popularity, with a weight q of each item, c is w n q(i) / (sum of q over unseen items). For
scores that are products of factors, a pass over all cells is three matrix products, which are hundreds of times faster
than gathering rows. The other loss, `softmax`, is minus the log of each seen item's share of exp(z).
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ncf.data.interactions import Interactions
from ncf.models.features import FeaturedNCF, ids_of
from ncf.models.neural import NCF
from ncf.models.popular import POWER
from ncf.models.seen import SeenItems, seen_positions
from ncf.training.config import TrainConfig
from ncf.training.cost import tower_floats, users_of_a_step
from ncf.training.method import OnStep, learning_rate_at, seed_epoch, sorted_weight, uses_bf16

BETAS = (0.9, 0.99)
EPSILON = 1e-8
# Computing the loss costs about a third of a step. Above LARGE_CELLS cells an epoch it is computed in every 4th batch
# only, and the loss of the epoch is the mean over those.
MEASURED, LARGE_CELLS = 4, 2**23
TOWER_FLOATS_AT_ONCE = 2**25  # of the tower's layers for the users of a batch and all items: 128 MB


class Seen(NamedTuple):
    """The seen cells of users [B]: row 0..B-1 and item, int64 [N], and weight [N], or a scalar 1 without weights."""

    row: Tensor
    item: Tensor
    weight: Tensor


class RowAdam:
    """Adam (arXiv 1412.6980) for a table whose rows are updated once in each epoch: a step updates the batch's rows."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.mean = torch.zeros_like(table)
        self.square = torch.zeros_like(table)

    def step(self, rows: Tensor, gradient: Tensor, learning_rate: float, epoch: int) -> None:
        mean = torch.lerp(self.mean[rows], gradient, 1 - BETAS[0])
        square = torch.lerp(self.square[rows], gradient * gradient, 1 - BETAS[1])
        self.mean[rows], self.square[rows] = mean, square
        size = (square / (1 - BETAS[1] ** epoch)).sqrt_().add_(EPSILON)
        self.table[rows] -= mean.div_(size).mul_(learning_rate / (1 - BETAS[0] ** epoch))


class ExactTraining:
    """Training by passes over all cells; a batch is some users with all items."""

    def __init__(self, model: NCF, fit: Interactions, config: TrainConfig, device: torch.device) -> None:
        assert config.batch_size is not None
        self.model, self.config = model, config
        self.seen = SeenItems.of_interactions(fit, device)
        self.num_users, self.num_items = fit.num_users, fit.num_items
        self.count = self.seen.counts().float()
        self.weight = sorted_weight(fit, device)
        self.among_all = config.negatives_among == "all"
        others = self.num_items if self.among_all else (self.num_items - self.count).clamp(min=1)
        self.item_weight: Tensor | None = None  # q, scaled to a mean of 1
        if config.negatives_among == "popular":
            self.item_weight, others = self._by_popularity(fit)
        self.unseen_weight = config.negative_weight * self.count / others
        if config.loss == "softmax":
            self.unseen_weight.zero_()
        at_once = min(config.batch_size, TOWER_FLOATS_AT_ONCE // max(1, tower_floats(config)))
        self.batch_users = users_of_a_step(at_once, self.num_users, self.num_items)
        self.samples = self.num_users * self.num_items
        self.generator = torch.Generator(device)
        self.bf16 = uses_bf16(config, device)
        tables = [ids_of(branch.user_embedding) for branch in model.branches]  # type: ignore[arg-type]
        self.users = [RowAdam(table.requires_grad_(False)) for table in tables]
        shared = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(shared, lr=0.0, betas=BETAS, eps=EPSILON, fused=True)

    def _by_popularity(self, fit: Interactions) -> tuple[Tensor, Tensor]:
        """The weight of each item, and the sum over the unseen items of each user; 1 if there is none."""
        counts = torch.as_tensor(fit.popularity(), device=self.count.device)
        weight = counts.double().pow(POWER).where(counts > 0, 0.0)
        weight *= self.num_items / weight.sum()
        user = torch.repeat_interleave(self.seen.counts())
        seen = torch.zeros_like(self.count, dtype=torch.float64).index_add_(0, user, weight[self.seen.items.long()])
        unseen = weight.sum() - seen
        return weight.float(), unseen.where(unseen > 1e-6 * self.num_items, 1.0).float()

    def epoch(self, number: int, on_step: OnStep) -> float:
        self.model.train()
        seed_epoch(self.config.seed, number, self.generator)
        began = time.perf_counter()
        batches = torch.randperm(self.num_users, generator=self.generator, device=self.count.device)
        parts = torch.split(batches, self.batch_users)
        total = torch.zeros((), dtype=torch.float64, device=self.count.device)
        every = MEASURED if self.samples > LARGE_CELLS else 1
        done, samples = 0, torch.zeros_like(total)
        assert self.config.epochs is not None
        for step, users in enumerate(parts, start=1):
            rate = learning_rate_at(self.config, (number - 1) * len(parts) + step - 1, self.config.epochs * len(parts))
            loss = self.step(users, rate, number, measured=step % every == 0 or step == len(parts))
            done += len(users) * self.num_items
            if loss is None:
                continue
            total += loss
            samples += self.samples_of(users)
            if step == len(parts) or step % 16 == 1:  # not in every step, because reading the loss waits for the device
                on_step(
                    number,
                    step,
                    len(parts),
                    (total / samples.clamp(min=1)).item(),
                    done / (time.perf_counter() - began),
                )
        return (total / samples.clamp(min=1)).item()

    def samples_of(self, users: Tensor) -> Tensor:
        """The number of samples that the cells of users stand for: seen items, and the mean number of drawn ones."""
        positives = self.count[users].double()
        return positives.sum() * (1 if self.config.loss == "softmax" else 1 + self.config.negative_weight)

    def step(self, users: Tensor, rate: float, epoch: int, measured: bool = True) -> Tensor | None:
        """One update with users [B] and all items; returns the loss before it, a sum over the cells, or None."""
        assert self.config.l2 is not None
        rows = [table.table[users].requires_grad_() for table in self.users]
        with torch.autocast(users.device.type, torch.bfloat16, enabled=self.bf16):
            featured = self.model.of_users(rows, users) if isinstance(self.model, FeaturedNCF) else rows
            score = self.model.against_all(featured)
        seen = self.seen_by(users)
        with torch.no_grad():
            loss = self.loss(score.detach(), users, seen) if measured else None
            gradient = self.gradient(score.detach(), users, seen)
        self.optimizer.zero_grad(set_to_none=True)
        score.backward(gradient)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.decay(users, rows, seen)
            for table, row in zip(self.users, rows, strict=True):
                assert row.grad is not None
                table.step(users, row.grad, rate, epoch)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        return loss

    def seen_by(self, users: Tensor) -> Seen:
        row, position = seen_positions(self.seen.indptr, users)
        weight = torch.ones(()) if self.weight is None else self.weight[position]
        return Seen(row, self.seen.items[position], weight.to(row.device))

    def loss(self, score: Tensor, users: Tensor, seen: Seen) -> Tensor:
        """The loss of scores [B, num_items]: a sum over the cells."""
        positive = score[seen.row, seen.item].float()
        if self.config.loss == "softmax":
            return (self.mass(users, seen) * score.float().logsumexp(1)).sum() - (seen.weight * positive).sum()
        of_item = 1.0 if self.item_weight is None else self.item_weight[seen.item]
        each = softplus(score) if self.item_weight is None else softplus(score) * self.item_weight
        cost = each.sum(1, dtype=torch.float32)
        if not self.among_all:
            cost.index_add_(0, seen.row, -softplus(positive) * of_item)
        return (cost * self.unseen_weight[users]).sum() + (seen.weight * softplus(-positive)).sum()

    def gradient(self, score: Tensor, users: Tensor, seen: Seen) -> Tensor:
        """The gradient of the loss by the scores, [B, num_items]."""
        if self.config.loss == "softmax":
            gradient = score.float().softmax(1).mul_(self.mass(users, seen).unsqueeze(1))
            gradient[seen.row, seen.item] -= seen.weight
            return gradient.to(score.dtype)
        unseen = self.unseen_weight[users]
        gradient = torch.sigmoid(score).mul_(unseen.unsqueeze(1).to(score.dtype))
        if self.item_weight is not None:
            gradient *= self.item_weight.to(score.dtype)
        positive = score[seen.row, seen.item].float()
        of_seen = -seen.weight * torch.sigmoid(-positive)
        if self.among_all:
            of_seen += unseen[seen.row] * torch.sigmoid(positive)
        gradient[seen.row, seen.item] = of_seen.to(gradient.dtype)
        return gradient

    def mass(self, users: Tensor, seen: Seen) -> Tensor:
        """The weights of each user's seen items, summed: [B]."""
        return torch.zeros(len(users), device=users.device).index_add_(0, seen.row, seen.weight.expand(len(seen.row)))

    def decay(self, users: Tensor, rows: list[Tensor], seen: Seen) -> None:
        """Add the gradient of l2: each sample, seen or drawn, adds l2 (|p|² + |q|²) for its rows of the tables."""
        if not self.config.l2:
            return
        drawn = 0.0 if self.config.loss == "softmax" else self.config.negative_weight
        # As if negatives were drawn among all items: without the seen ones the ranking was worse (docs/log.md).
        everywhere = drawn * self.count[users].sum() / self.num_items
        if self.item_weight is not None:
            everywhere = everywhere * self.item_weight
        item_samples = everywhere + torch.bincount(seen.item, minlength=self.num_items)
        user_samples = self.count[users] * (1 + drawn)
        for branch, row in zip(self.model.branches, rows, strict=True):
            item = ids_of(branch.item_embedding)  # type: ignore[arg-type]
            assert item.grad is not None
            assert row.grad is not None
            item.grad.addcmul_(item, item_samples.unsqueeze(1), value=2 * self.config.l2)
            row.grad.addcmul_(row, user_samples.unsqueeze(1), value=2 * self.config.l2)
        if isinstance(self.model, FeaturedNCF):
            self.model.decay(user_samples, item_samples, self.config.l2)

    def state(self) -> dict[str, Any]:
        moments = [(table.mean, table.square) for table in self.users]
        return {"users": moments, "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        for table, (mean, square) in zip(self.users, state["users"], strict=True):
            table.mean.copy_(mean)
            table.square.copy_(square)
        self.optimizer.load_state_dict(state["optimizer"])


def initialise(model: NCF, fit: Interactions) -> None:
    """Initial values of exact training: factors of deviation .1, and each item's bias the log of its share of users.

    The prediction weights of a GMF stay 1, because the product of the factors can take any scale itself.
    """
    popularity = torch.as_tensor(fit.popularity(), dtype=torch.float32)
    with torch.no_grad():
        for branch in model.branches:
            for table in (branch.user_embedding, branch.item_embedding):
                table.weight.normal_(std=0.1)  # type: ignore[operator,union-attr]
        model.item_bias.weight[:, 0] = torch.log((popularity + 1) / fit.num_users)
        if len(model.branches) == 1 and hasattr(model.branches[0], "dropout"):
            model.predict.weight.fill_(1.0)
            model.predict.requires_grad_(False)
    model.item_bias.requires_grad_(True)
