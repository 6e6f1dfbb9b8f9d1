"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ncf.data.interactions import Interactions
from ncf.errors import InputError
from ncf.evaluation.ranking import Candidates, evaluate_sampled
from ncf.models.learned_features import LearnedFeatures
from ncf.models.neural import NCF, build_model
from ncf.training.checkpoints import Checkpoints
from ncf.training.closed_form import LeastSquares, Spectral
from ncf.training.config import CLOSED, TrainConfig
from ncf.training.exact import ExactTraining, initialise
from ncf.training.method import Method, OnStep
from ncf.training.sampled import SampledTraining
from ncf.training.world import World

INTERRUPTED, OUT_OF_TIME, ALL_DONE = "interrupted", "out of time", "all epochs done"
CUT_SHORT = (INTERRUPTED, OUT_OF_TIME)


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch; the quality is measured on the items for the choice of the epoch, None without those.

    `stage` names the model if a run trains several.
    """

    epoch: int
    loss: float
    samples_per_second: float
    seconds: float
    hit_rate_at_10: float | None
    ndcg_at_10: float | None
    stage: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Refit:
    """A model that was fitted to `fit`, which are all interactions, held-out ones included; `features` as in
    `TrainResult`."""

    fit: Interactions
    model: NCF
    features: LearnedFeatures | None = None


@dataclass(frozen=True)
class TrainResult:
    """The model, all epochs, the reason why the training ended, and the model's quality on the items for the choice.

    `best` is the epoch whose weights the model has. It is None for a model that is `made` of several, which has no
    epoch and no loss of its own. `chosen` are the best epochs of all stages. `features` is what it learned about the
    values of features, None without any. `refit` was trained afterwards, if it was.
    """

    model: NCF
    config: TrainConfig
    epochs: tuple[Epoch, ...]
    best: Epoch | None
    stopped: str
    hit_rate_at_10: float | None
    ndcg_at_10: float | None
    made: str = ""
    chosen: tuple[Epoch, ...] = ()
    features: LearnedFeatures | None = None
    refit: Refit | None = None

    @property
    def origin(self) -> str:
        """Where the model comes from, in words."""
        if self.best is None:
            return self.made
        return f"best epoch {self.best.epoch} of {sum(epoch.stage == self.best.stage for epoch in self.epochs)}"

    @property
    def loss(self) -> float | None:
        return None if self.best is None else self.best.loss


@dataclass(frozen=True)
class Watch:
    """What a training reports to and is bounded by: callbacks, checkpoints, deadline (`time.monotonic()`), rank."""

    on_stage: Callable[[str], None] = lambda stage: None
    on_step: OnStep = lambda epoch, step, steps, loss, rate: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    on_restored: Callable[[Epoch], None] = lambda epoch: None
    say: Callable[[str], None] = lambda text: None
    checkpoints: Checkpoints | None = None
    deadline: float = math.inf
    world: World = field(default_factory=World)


@dataclass
class Progress:
    """The state of a stage: its epochs, and the number (from 0) and the weights of the best epoch."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped: str = ""

    def add(self, epoch: Epoch, model: NCF) -> None:
        self.epochs.append(epoch)
        best = self.epochs[self.best].ndcg_at_10 if self.best >= 0 else None
        if best is None or epoch.ndcg_at_10 is None or epoch.ndcg_at_10 > best:
            self.best = len(self.epochs) - 1
            self.best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}


def start_model(fit: Interactions, config: TrainConfig, device: torch.device) -> NCF:
    """A new model for a configuration, initialised from its seed."""
    torch.manual_seed(config.seed)
    model = build_model(
        config.model, fit.num_users, fit.num_items, config.num_factors, config.num_layers, config.dropout or 0.0
    )
    if config.negatives == "exact":
        initialise(model, fit)
    return model.to(device)


def train_stage(
    fit: Interactions,
    candidates: Candidates | None,
    config: TrainConfig,
    device: torch.device,
    watch: Watch,
    stage: str = "",
    start: NCF | None = None,
    until: int | None = None,
) -> TrainResult:
    """Train one model on `fit`; the best epoch has the highest NDCG@10 on `candidates`, without those it is the last.

    The last epoch is `until`, by default all; the schedule of the learning rate is that of all. Training continues from
    the newest checkpoint of the stage. Ctrl-C, the deadline and a loss that is not a number end it with the best epoch
    so far. Raises InputError if the loss of the first epoch is not a number.
    """
    watch.on_stage(stage)
    model = start or start_model(fit, config, device)
    if config.loss in CLOSED:
        method: Method = (LeastSquares if config.loss == "squares" else Spectral)(model, fit, config, device)
    elif config.negatives == "exact":
        method = ExactTraining(model, fit, config, device)
    else:
        method = SampledTraining(model, fit, config, device, watch.world)
    assert config.epochs is not None
    last = until or config.epochs
    progress = restored(method, watch, stage)
    if progress.stopped == ALL_DONE and len(progress.epochs) < last:
        progress.stopped = ""  # a refit, and since then a later epoch was chosen
    try:
        while not progress.stopped:
            run_epoch(method, candidates, config, progress, watch, stage, last)
    except KeyboardInterrupt:
        if progress.best < 0:
            raise
        progress.stopped = INTERRUPTED
    if progress.best < 0:
        raise InputError(
            f"{progress.stopped} in the first epoch; lower --learning-rate (it is {config.learning_rate}) "
            "or look for extreme weights in the data"
        )
    model.load_state_dict(progress.best_weights)
    best = progress.epochs[progress.best]
    quality = best.hit_rate_at_10, best.ndcg_at_10
    return TrainResult(model.eval(), config, tuple(progress.epochs), best, progress.stopped, *quality, chosen=(best,))


def run_epoch(
    method: Method, candidates: Candidates | None, config: TrainConfig, progress: Progress, watch: Watch, stage: str,
    last: int,
) -> None:  # fmt: skip
    """Train one epoch in all processes; the first process measures and saves it, and decides whether to go on."""
    assert config.patience is not None
    number = len(progress.epochs) + 1
    began = time.perf_counter()
    try:
        loss = method.epoch(number, watch.on_step)
    except RuntimeError:
        time.sleep(0.1)  # a stopped process breaks the connection: wait for the signal, which is the cause
        raise
    seconds = time.perf_counter() - began
    if not watch.world.first:  # only counts its epochs; the first process shares whether to go on
        progress.add(Epoch(number, loss, method.samples / seconds, seconds, None, None, stage), method.model)
    elif not math.isfinite(loss):
        progress.stopped = f"the loss became {loss}"
    else:
        method.model.eval()
        quality = evaluate_sampled(method.model, candidates) if candidates else {}
        epoch = Epoch(
            number, loss, method.samples / seconds, seconds, quality.get("HR@10"), quality.get("NDCG@10"), stage
        )
        progress.add(epoch, method.model)
        if number >= last:
            progress.stopped = ALL_DONE
        elif candidates and number - 1 - progress.best >= config.patience:
            progress.stopped = f"no better epoch in {config.patience}"
        if watch.checkpoints:
            watch.checkpoints.save(stage, number, snapshot(method, progress), progress.best + 1, progress.stopped)
        watch.on_epoch(epoch)
        if not progress.stopped and time.monotonic() >= watch.deadline:
            progress.stopped = OUT_OF_TIME
    progress.stopped = watch.world.share(progress.stopped)


def snapshot(method: Method, progress: Progress) -> dict[str, Any]:
    """The state that the next epoch depends on; random numbers are seeded by the number of the epoch."""
    return {
        "model": method.model.state_dict(),
        "method": method.state(),
        "epochs": [epoch.to_dict() for epoch in progress.epochs],
        "best": progress.best,
        "best_weights": progress.best_weights,
        "stopped": progress.stopped,
    }


def restored(method: Method, watch: Watch, stage: str) -> Progress:
    """Restore the newest checkpoint of a stage, if there is one.

    On the same machine the next epochs are the same, bit for bit, as without the interruption.
    """
    saved = watch.world.share(watch.checkpoints.latest(stage) if watch.checkpoints else None)
    if saved is None:
        return Progress()
    method.model.load_state_dict(saved["model"])
    method.load_state(saved["method"])
    epochs = [Epoch(**values) for values in saved["epochs"]]
    for epoch in epochs:
        watch.on_restored(epoch)
    watch.say(f"{stage}{', ' if stage else ''}continuing after epoch {len(epochs)}")
    return Progress(epochs, saved["best"], saved["best_weights"], saved["stopped"])
