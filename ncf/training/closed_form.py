"""Ways of training with a closed form for the factors of a GMF.

An epoch of alternating least squares minimises the loss `squares` for the items, then for the users: the loss of a seen
cell with the score z is x (1 - z)², x its weight, and every cell adds c z². c is such that the cells have the total
weight `negative_weight` for each positive, as in the other losses (ncf/models/least_squares.py). The loss `spectral` is
the share of the normalised matrix that its largest singular values leave out (ncf/models/spectral.py).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ncf.data.interactions import Interactions
from ncf.models.features import ids_of
from ncf.models.least_squares import solve_rows, transposed
from ncf.models.neural import NCF, SCORES_AT_ONCE
from ncf.models.seen import SeenItems
from ncf.models.spectral import spectral
from ncf.training.config import TrainConfig
from ncf.training.method import OnStep, sorted_weight


class ClosedForm:
    """A way of training whose next epoch depends on the factors alone; the score is their product."""

    def __init__(self, model: NCF, fit: Interactions, device: torch.device) -> None:
        self.model, self.samples = model, fit.num_users * fit.num_items
        self.seen = SeenItems.of_interactions(fit, device)
        self.weight = sorted_weight(fit, device)
        self.some = (self.seen.counts() > 0).unsqueeze(1)
        branch = model.branches[0]
        tables = branch.user_embedding, branch.item_embedding
        self.users, self.items = (ids_of(table).detach() for table in tables)  # type: ignore[arg-type]
        with torch.no_grad():
            model.predict.weight.fill_(1.0)
            model.predict.bias.zero_()
            model.item_bias.weight.zero_()

    def set_users(self, users: Tensor) -> None:
        """Take these factors; users without any item, which no loss knows, get the mean of the others."""
        self.users.copy_(torch.where(self.some, users, users.sum(0) / self.some.sum()))

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


class LeastSquares(ClosedForm):
    """Alternating least squares."""

    def __init__(self, model: NCF, fit: Interactions, config: TrainConfig, device: torch.device) -> None:
        super().__init__(model, fit, device)
        assert config.l2 is not None
        self.l2 = config.l2
        self.seen_by, order = transposed(self.seen)
        self.weight_by = None if self.weight is None else self.weight[order]
        self.per_sample = 1 / (len(self.seen.items) * (1 + config.negative_weight))
        self.unobserved = config.negative_weight * len(self.seen.items) / self.samples

    @torch.no_grad()
    def epoch(self, number: int, on_step: OnStep) -> float:
        began = time.perf_counter()
        users = torch.where(self.some, self.users, 0.0)
        self.items.copy_(solve_rows(self.seen_by, users, self.l2, self.unobserved, self.weight_by))
        users = solve_rows(self.seen, self.items, self.l2, self.unobserved, self.weight)
        self.set_users(users)
        loss = self.loss(users)  # only here, because it takes a quarter of an epoch
        on_step(number, 1, 1, loss, self.samples / (time.perf_counter() - began))
        return loss

    def loss(self, users: Tensor) -> float:
        """The mean loss of a sample, a positive or one of its negatives, without the ridge."""
        items = self.items
        total = self.unobserved * ((users.t() @ users) * (items.t() @ items)).sum(dtype=torch.float64)
        user = torch.repeat_interleave(self.seen.counts())
        for pairs in torch.split(torch.arange(len(user), device=user.device), SCORES_AT_ONCE // users.size(1)):
            score = (users[user[pairs]] * items[self.seen.items[pairs].long()]).sum(1)
            error = (1 - score).square()
            total += (error if self.weight is None else error * self.weight[pairs]).sum(dtype=torch.float64)
        return float(total) * self.per_sample


class Spectral(ClosedForm):
    """The low-pass filter, in one epoch."""

    def __init__(self, model: NCF, fit: Interactions, config: TrainConfig, device: torch.device) -> None:
        super().__init__(model, fit, device)
        self.seed = config.seed

    @torch.no_grad()
    def epoch(self, number: int, on_step: OnStep) -> float:
        began = time.perf_counter()
        users, items, lost = spectral(self.seen, self.users.size(1), self.weight, self.seed)
        self.items.zero_()
        self.items[:, : items.size(1)] = items
        self.set_users(pad(users, (0, self.users.size(1) - users.size(1))))
        on_step(number, 1, 1, lost, self.samples / (time.perf_counter() - began))
        return lost
