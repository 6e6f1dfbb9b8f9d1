"""The training loop and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ncf.config import TrainConfig
from ncf.errors import InputError
from ncf.evaluate import Candidates, evaluate_sampled
from ncf.interactions import Interactions
from ncf.models import NCF, build_model
from ncf.negatives import SeenItems
from ncf.splits import Split, leave_one_out

OnStep = Callable[[int, int, int, float, float], None]


@dataclass(frozen=True)
class Epoch:
    """What one epoch reports; quality is measured on the hold-out that was cut from train."""

    epoch: int
    loss: float
    samples_per_second: float
    seconds: float
    hit_rate_at_10: float
    ndcg_at_10: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class TrainResult:
    """The model with the weights of its best epoch, and how it got there."""

    model: NCF
    epochs: tuple[Epoch, ...]
    best_epoch: int
    stopped: str


def train(
    split: Split,
    config: TrainConfig,
    device: torch.device,
    on_step: OnStep = lambda epoch, step, steps, loss, rate: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> TrainResult:
    """Train on `split.train`; the best epoch is the one with the highest NDCG@10 on a hold-out cut from it.

    `on_step(epoch, step, steps, loss, samples_per_second)` and `on_epoch(epoch)` report progress. Ctrl-C ends
    training and keeps the best epoch so far, as does a loss that stops being a number; InputError if there is none.
    """
    torch.manual_seed(config.seed)
    generator = torch.Generator(device).manual_seed(config.seed)
    fit = leave_one_out(split.train, config.seed)
    candidates = Candidates.of(fit.held_out, split, device, config.seed)
    if len(candidates.user_index) == 0:
        raise InputError(
            "no user has an item to choose the best epoch by: that takes three interactions of one user (one to train "
            "on, one for the choice, one for `ncf evaluate`) and an item that user has not seen"
        )
    positives = Positives.of(fit.train, device)
    model = build_model(
        config.model, fit.train.num_users, fit.train.num_items, config.num_factors, config.num_layers, config.dropout
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    done: list[Epoch] = []
    best_weights: dict[str, Tensor] = {}
    best, stopped = -1, "all epochs done"
    try:
        for number in range(1, config.epochs + 1):
            began = time.perf_counter()
            loss = train_epoch(model, optimizer, positives, config, generator, number, on_step)
            if not math.isfinite(loss):
                stopped = f"the loss became {loss}"
                break
            seconds = time.perf_counter() - began
            quality = evaluate_sampled(model.eval(), candidates)
            samples = len(positives.user_index) * (1 + config.num_train_negatives)
            epoch = Epoch(number, loss, samples / seconds, seconds, quality["HR@10"], quality["NDCG@10"])
            done.append(epoch)
            if best < 0 or epoch.ndcg_at_10 > done[best].ndcg_at_10:
                best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
                best = len(done) - 1
            on_epoch(epoch)
            if len(done) - 1 - best >= config.patience:
                stopped = f"no better epoch in {config.patience}"
                break
    except KeyboardInterrupt:
        if best < 0:
            raise
        stopped = "interrupted"
    if best < 0:
        raise InputError(
            f"{stopped} in the first epoch; lower --learning-rate (it is {config.learning_rate}) "
            "or look for extreme weights in the data"
        )
    model.load_state_dict(best_weights)
    return TrainResult(model.eval(), tuple(done), done[best].epoch, stopped)


@dataclass(frozen=True)
class Positives:
    """The training pairs on the device (int64 [N], float32 [N] or None) and what their users have seen."""

    user_index: Tensor
    item_index: Tensor
    weight: Tensor | None
    seen: SeenItems

    @classmethod
    def of(cls, fit: Interactions, device: torch.device) -> Positives:
        """Only what is fitted is known as seen: the hold-out stays a possible negative, as the test item does."""
        weight = None if fit.weight is None else torch.as_tensor(fit.weight / fit.weight.mean(), device=device)
        return cls(
            torch.as_tensor(fit.user_index, device=device),
            torch.as_tensor(fit.item_index, device=device),
            weight,
            SeenItems.of(fit.user_index, fit.item_index, fit.num_users, fit.num_items, device),
        )


def train_epoch(
    model: NCF,
    optimizer: torch.optim.Optimizer,
    positives: Positives,
    config: TrainConfig,
    generator: torch.Generator,
    number: int,
    on_step: OnStep,
) -> float:
    """One pass over all positives with fresh negatives; returns the mean loss of its batches."""
    model.train()
    began = time.perf_counter()
    total = torch.zeros((), device=positives.user_index.device)
    batches = epoch_batches(positives, config, generator)
    steps = -(-len(positives.user_index) // (config.batch_size // (1 + config.num_train_negatives)))
    for step, (user, items, label, weight) in enumerate(batches, start=1):
        score = model(user, items)
        loss = binary_cross_entropy_with_logits(score, label, weight)
        total += loss.detach()
        if config.l2:
            loss = loss + config.l2 * embedding_norm(model, user, items)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step == steps or step % 16 == 1:  # reading the loss waits for the device: not at each step
            mean = total.item() / step
            on_step(number, step, steps, mean, step * config.batch_size / (time.perf_counter() - began))
    return total.item() / steps


def epoch_batches(
    positives: Positives, config: TrainConfig, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Shuffled batches: users [B, 1], items [B, 1 + negatives] (the positive first), labels and weights alike.

    All negatives of the epoch come from one draw. A positive stays in one batch with its negatives, so that its user
    is looked up once instead of 1 + negatives times.
    """
    num = len(positives.user_index)
    order = torch.randperm(num, generator=generator, device=positives.user_index.device)
    user = positives.user_index[order]
    negatives, some = positives.seen.draw_unseen(user, config.num_train_negatives, generator)
    items = torch.cat([positives.item_index[order].unsqueeze(1), negatives], dim=1)
    weight = some.unsqueeze(1).expand_as(items).float()  # a user who has seen everything has no negatives
    weight[:, 0] = 1.0 if positives.weight is None else positives.weight[order]
    rows = config.batch_size // (1 + config.num_train_negatives)
    label = torch.zeros((rows, items.shape[1]), device=items.device)
    label[:, 0] = 1.0
    for start in range(0, num, rows):
        part = slice(start, start + rows)
        yield user[part].unsqueeze(1), items[part], label[: num - start], weight[part]


def embedding_norm(model: NCF, user: Tensor, items: Tensor) -> Tensor:
    """Mean squared length of the embeddings a batch touches, summed over the tables."""
    norms = []
    for branch in model.branches:
        norms.append(branch.user_embedding(user).square().sum(-1).mean())  # type: ignore[operator]
        norms.append(branch.item_embedding(items).square().sum(-1).mean())  # type: ignore[operator]
    return torch.stack(norms).sum()
