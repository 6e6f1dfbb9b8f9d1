"""The training loop and nothing else."""

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
from ncf.models.neural import NCF, build_model
from ncf.training.checkpoints import Checkpoints
from ncf.training.config import TrainConfig
from ncf.training.exact import ExactTraining, initialise
from ncf.training.method import Method, OnStep
from ncf.training.sampled import SampledTraining
from ncf.training.world import World

INTERRUPTED, OUT_OF_TIME = "interrupted", "out of time"
CUT_SHORT = (INTERRUPTED, OUT_OF_TIME)


@dataclass(frozen=True)
class Epoch:
    """What one epoch reports; quality is measured on the hold-out that was cut from train, where there is one.

    `stage` says which of several models was trained, where a run trains several.
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
class TrainResult:
    """The model with the weights of its best epoch, and how it got there; `best` is that epoch."""

    model: NCF
    config: TrainConfig
    epochs: tuple[Epoch, ...]
    best: Epoch
    stopped: str


@dataclass(frozen=True)
class Watch:
    """Which process this is, who is told how training goes, where it is saved, when (`time.monotonic()`) it ends."""

    on_step: OnStep = lambda epoch, step, steps, loss, rate: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    on_restored: Callable[[Epoch], None] = lambda epoch: None
    say: Callable[[str], None] = lambda text: None
    checkpoints: Checkpoints | None = None
    deadline: float = math.inf
    world: World = field(default_factory=World)


@dataclass
class Progress:
    """How far a stage is: its epochs, and the best one's number (from 0) and weights."""

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
    """A fresh model for a configuration, from its seed."""
    torch.manual_seed(config.seed)
    assert config.dropout is not None
    model = build_model(
        config.model, fit.num_users, fit.num_items, config.num_factors, config.num_layers, config.dropout
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
) -> TrainResult:
    """Train one model on `fit`; the best epoch is the one with the highest NDCG@10 on `candidates`, else the last.

    Continues from the newest checkpoint of the stage. Ctrl-C and the deadline end training and keep the best epoch so
    far, as does a loss that stops being a number; InputError if there is none.
    """
    model = start or start_model(fit, config, device)
    if config.negatives == "exact":
        method: Method = ExactTraining(model, fit, config, device)
    else:
        method = SampledTraining(model, fit, config, device, watch.world)
    progress = restored(method, watch, stage)
    try:
        while not progress.stopped:
            run_epoch(method, candidates, config, progress, watch, stage)
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
    return TrainResult(model.eval(), config, tuple(progress.epochs), best, progress.stopped)


def run_epoch(
    method: Method, candidates: Candidates | None, config: TrainConfig, progress: Progress, watch: Watch, stage: str
) -> None:
    """One more epoch: trained by all processes, measured and saved by the first, who says whether it was the last."""
    assert config.epochs is not None
    assert config.patience is not None
    number = len(progress.epochs) + 1
    began = time.perf_counter()
    try:
        loss = method.epoch(number, watch.on_step)
    except RuntimeError:
        time.sleep(0.1)  # processes that are told to stop lose each other: the signal counts, not what followed it
        raise
    seconds = time.perf_counter() - began
    if not watch.world.first:  # counts its epochs, and hears whether to go on
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
        if number >= config.epochs:
            progress.stopped = "all epochs done"
        elif candidates and number - 1 - progress.best >= config.patience:
            progress.stopped = f"no better epoch in {config.patience}"
        if watch.checkpoints:
            watch.checkpoints.save(stage, number, snapshot(method, progress), progress.best + 1, progress.stopped)
        watch.on_epoch(epoch)
        if not progress.stopped and time.monotonic() >= watch.deadline:
            progress.stopped = OUT_OF_TIME
    progress.stopped = watch.world.share(progress.stopped)


def snapshot(method: Method, progress: Progress) -> dict[str, Any]:
    """Everything the next epoch depends on; what is random there is seeded by the epoch's number."""
    return {
        "model": method.model.state_dict(),
        "method": method.state(),
        "epochs": [epoch.to_dict() for epoch in progress.epochs],
        "best": progress.best,
        "best_weights": progress.best_weights,
        "stopped": progress.stopped,
    }


def restored(method: Method, watch: Watch, stage: str) -> Progress:
    """Where the newest checkpoint of a stage was; the epochs that follow are those that would have followed then.

    On the same machine they are the same bit for bit.
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
