"""Sampled training: each positive with newly drawn negatives in each epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ncf.data.interactions import Interactions
from ncf.models.neural import NCF
from ncf.models.popular import PopularItems
from ncf.models.seen import SeenItems
from ncf.training.config import TrainConfig
from ncf.training.method import OnStep, learning_rate_at, relative_weight, seed_epoch, uses_bf16
from ncf.training.world import World

ROWS_AT_ONCE = 2**21  # positives whose negatives are drawn in one call: tens of megabytes


@dataclass(frozen=True)
class Positives:
    """The training pairs of this process on the device (integer [N], float32 [N] or None), and all seen items."""

    user_index: Tensor
    item_index: Tensor
    weight: Tensor | None
    seen: SeenItems

    @classmethod
    def of(cls, fit: Interactions, device: torch.device, world: World) -> Positives:
        """The pairs of this process: every size-th pair, equally many in each process, so that all make equal steps."""
        part = slice(world.rank, len(fit) - len(fit) % world.size, world.size)
        weight = relative_weight(fit, device)
        return cls(
            torch.as_tensor(fit.user_index[part], device=device),
            torch.as_tensor(fit.item_index[part], device=device),
            None if weight is None else weight[part],
            SeenItems.of_interactions(fit, device),  # held-out items stay possible negatives
        )


class SampledTraining:
    """Training by shuffled passes over the positives; positives, negatives and shuffle are on the device.

    Each of several processes has its own positives, shuffle and negatives, and its share of the batch.
    """

    def __init__(
        self, model: NCF, fit: Interactions, config: TrainConfig, device: torch.device, world: World | None = None
    ) -> None:
        assert config.learning_rate is not None
        assert config.batch_size is not None
        self.world = world or World()
        self.model, self.config, self.device = model, config, device
        self.scorer: nn.Module = model if self.world.size == 1 else nn.parallel.DistributedDataParallel(model)
        self.positives = Positives.of(fit, device, self.world)
        self.popular = None
        if config.negatives_among == "popular":
            self.popular = PopularItems.of(self.positives.seen, torch.as_tensor(fit.popularity(), device=device))
        rows = config.batch_size // (1 + config.num_train_negatives) // self.world.size
        self.rows = min(max(1, rows), len(self.positives.user_index))
        self.samples = len(fit) * (1 + config.num_train_negatives)
        self.generator = torch.Generator(device)
        self.bf16 = (
            uses_bf16(config, device) and device.type != "cpu"
        )  # on a CPU gathering rows takes the time, not the products
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)

    def epoch(self, number: int, on_step: OnStep) -> float:
        config = self.config
        assert config.epochs is not None
        self.model.train()
        seed_epoch(config.seed, number, self.generator, self.world)
        began = time.perf_counter()
        total = torch.zeros((), device=self.device)
        steps = -(-len(self.positives.user_index) // self.rows)
        samples = self.rows * self.world.size * (1 + config.num_train_negatives)
        batches = epoch_batches(
            self.positives, self.rows, config.num_train_negatives, self.generator, config.negatives_among, self.popular
        )
        for step, (user, items, label, weight) in enumerate(batches, start=1):
            rate = learning_rate_at(config, (number - 1) * steps + step - 1, config.epochs * steps)
            total += self.step(user, items, label, weight, rate)
            if step == steps or step % 16 == 1:  # not in every step, because reading the loss waits for the device
                mean = total.item() / step
                on_step(number, step, steps, mean, step * samples / (time.perf_counter() - began))
        return total.item() / steps

    def step(self, user: Tensor, items: Tensor, label: Tensor, weight: Tensor, rate: float) -> Tensor:
        """One update; returns the mean loss of the batch without l2."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            score = self.scorer(user, items)
        mean = binary_cross_entropy_with_logits(score.float(), label, weight)
        loss = mean + self.config.l2 * embedding_norm(self.model, user, items) if self.config.l2 else mean
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        return mean.detach()

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])


def epoch_batches(
    positives: Positives, rows: int, num_negatives: int, generator: torch.Generator, among: str = "unseen",
    popular: PopularItems | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:  # fmt: skip
    """Shuffled batches: users [B, 1], items [B, 1 + negatives] (the positive first), labels and weights alike.

    B is `rows`, or fewer in the last batch. A positive and its negatives are in the same batch, so that their user is
    looked up once instead of 1 + negatives times. Negatives are drawn `among` all items, the unseen ones, or the unseen
    ones by the popularity that `popular` has.
    """
    num = len(positives.user_index)
    order = torch.randperm(num, generator=generator, device=positives.user_index.device)
    label = torch.zeros((rows, 1 + num_negatives), device=order.device)
    label[:, 0] = 1.0
    at_once = max(1, ROWS_AT_ONCE // rows) * rows
    for block in torch.split(order, at_once):
        user = positives.user_index[block].long()
        if among == "all":
            size, some = (len(user), num_negatives), torch.ones_like(user, dtype=torch.bool)
            negatives = torch.randint(positives.seen.num_items, size, generator=generator, device=user.device)
        elif popular is not None:
            negatives, some = popular.draw_unseen(user, num_negatives, generator)
        else:
            negatives, some = positives.seen.draw_unseen(user, num_negatives, generator)
        items = torch.cat([positives.item_index[block].long().unsqueeze(1), negatives], dim=1)
        weight = some.unsqueeze(1).expand_as(items).float()  # a user who has seen everything has no negatives
        weight[:, 0] = 1.0 if positives.weight is None else positives.weight[block]
        for start in range(0, len(block), rows):
            part = slice(start, start + rows)
            yield user[part].unsqueeze(1), items[part], label[: len(block) - start], weight[part]


def embedding_norm(model: NCF, user: Tensor, items: Tensor) -> Tensor:
    """Mean squared length of the embeddings of a batch, summed over the tables."""
    norms = []
    for branch in model.branches:
        norms.append(branch.user_embedding(user).square().sum(-1).mean())  # type: ignore[operator]
        norms.append(branch.item_embedding(items).square().sum(-1).mean())  # type: ignore[operator]
    return torch.stack(norms).sum()
