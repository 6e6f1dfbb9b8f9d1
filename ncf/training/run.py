"""Train on a file or folder and write the run directory."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ncf.data.load import load_split
from ncf.data.splits import Split
from ncf.errors import InputError
from ncf.evaluation.comparison import Comparison, compare
from ncf.evaluation.ranking import NUM_EVALUATION_NEGATIVES
from ncf.features.encoding import find_features
from ncf.models.popular import with_popular_negatives
from ncf.training import recipe
from ncf.training.checkpoints import Checkpoints, identity_of
from ncf.training.config import EVALUATION_AMONG, TrainConfig
from ncf.training.cost import require_one_model, require_one_process
from ncf.training.loop import Epoch, TrainResult, Watch
from ncf.training.nothing_lost import undisturbed
from ncf.training.progress import EventFiles, TrainingProgress
from ncf.training.run_directory import CHECKPOINTS, Run, load_run
from ncf.training.run_writer import append_metrics, begin_run, finish_run, new_run_directory
from ncf.training.world import joined_world, world_size

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Life:
    """Where a run begins and ends: `resume` continues from `checkpoints` (None: a folder in the run directory).

    `init` is the directory of an earlier run, whose parameters the model starts with.
    `say` takes the lines about the data that were read; a `quiet` run prints nothing.
    """

    resume: bool = False
    checkpoints: Path | None = None
    max_seconds: float = math.inf
    tensorboard: Path | None = None
    say: Callable[[str], None] = log.info
    quiet: bool = False
    init: Path | None = None


def choose_device(name: str) -> torch.device:
    """The device for cpu, gpu or auto (a GPU if there is one). Raises InputError for gpu without a GPU."""
    if name == "gpu" and not torch.cuda.is_available():
        raise InputError("--device gpu: PyTorch finds no CUDA device here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train_run(
    data: Path | Sequence[Path] | Split,
    output: Path,
    config: TrainConfig,
    device: torch.device,
    life: Life | None = None,
    item_features: Any = None,
    user_features: Any = None,
) -> TrainResult | None:
    """Train on files, a folder or a split, and write a run directory; all is checked before the directory is made.

    `item_features` and `user_features` are a path or a frame each. Returns None in the processes of a distributed
    training that do not write. Raises InputError.
    """
    life = life or Life()
    # A refit takes about as long as the training until the best epoch, so it gets half of the time.
    deadline = time.monotonic() + life.max_seconds * (0.5 if config.refit else 1)
    require_one_process(config, world_size())
    if item_features is not None or user_features is not None:
        require_one_model(config, world_size())
        if life.init:
            raise InputError(
                f"init is {life.init}, which starts with rows of ids alone, and features are learned beside them from "
                "the start; give one of both",
                field="init",
            )
    earlier = load_run(life.init) if life.init else None
    find = partial(find_features, user_features, item_features, config.split.columns)
    with joined_world(device) as world:  # before the data are read, so that an error in one process ends the others
        split = data if isinstance(data, Split) else load_split(data, config.split)
        if world.first:
            for line in split.look:
                life.say(line)
        plan = recipe.plan(split, config, device, world.size, earlier, find)
        if world.first and plan.features:
            for line in plan.features.look:
                life.say(line)
        look = (*split.look, *(plan.features.look if plan.features else ()))
        identity = identity_of(plan.config, plan.fit, earlier.model if earlier else None)
        if plan.features:
            identity["data"] += f" with features {plan.features.fingerprint}"
        if world.share(identity["data"]) != identity["data"]:
            raise InputError("this process has other data than the first process; every process needs all of the data")
        if not world.first:
            with suppress(KeyboardInterrupt):  # the first process gets the signal as well, and writes the best epoch
                result = recipe.train(plan, device, watch := Watch(world=world))
                if plan.config.refit:
                    recipe.refit(plan, split, result, device, watch)
            return None
        with (
            new_run_directory(output, plan.config, life.resume) as own,
            EventFiles(life.tensorboard) as events,
            TrainingProgress(recipe.stage_epochs(plan), life.quiet) as progress,
        ):
            checkpoints = Checkpoints(life.checkpoints or output / CHECKPOINTS, identity, life.resume, own)
            checkpoints.require_own()
            about = {"data": _names(data), "look": look} | ({"init": str(life.init)} if life.init else {})
            begin_run(output, own, plan.config, about, device)

            def on_restored(epoch: Epoch) -> None:
                append_metrics(output, epoch.to_dict())
                progress.on_epoch(epoch)

            def on_epoch(epoch: Epoch) -> None:
                on_restored(epoch)
                events.on_epoch(epoch)

            progress.say(plan.reason)
            watch = Watch(
                progress.on_stage,
                progress.on_step,
                on_epoch,
                on_restored,
                progress.say,
                checkpoints,
                deadline,
                world,
            )
            result = recipe.train(plan, device, watch)
            if plan.config.refit:
                progress.more([epoch.epoch for epoch in result.chosen])
                again = progress.on_refit_epoch
                watch = replace(watch, on_epoch=again, on_restored=again, deadline=math.inf)
                result = recipe.refit(plan, split, result, device, watch)
            with undisturbed("the run"):
                finish_run(output, own, split, result)
                if life.checkpoints is None:
                    own.remove(inside=output / CHECKPOINTS)  # a finished run is not continued
                    if (output / CHECKPOINTS).exists():
                        progress.say(f"{output / CHECKPOINTS} holds files of an earlier process; they may be deleted")
    return result


def compare_run(
    run: Run, split: Split, say: Callable[[str], None] = lambda what: None, negatives_among: str = "unseen"
) -> Comparison:
    """The model of a run beside the baselines on the held-out items of a split, which may have other ids.

    The seed of the split draws the negatives, among the unseen items alike or, for `popular`, by their popularity.
    Raises InputError if the data have negatives of their own and others are asked for.
    """
    split, seed = split.reindex(run.users, run.items), run.config.split.seed
    if negatives_among not in EVALUATION_AMONG:
        raise InputError(f"negatives_among is '{negatives_among}'; choose {', '.join(EVALUATION_AMONG)}")
    if negatives_among == "popular":
        split = with_popular_negatives(split, NUM_EVALUATION_NEGATIVES, next(run.model.parameters()).device, seed)
    return compare(run.model, split, recipe.cut(split, run.config)[0], seed, say)


def _names(data: Path | Sequence[Path] | Split) -> list[str]:
    if isinstance(data, Split):
        return []
    return [str(each) for each in ([data] if isinstance(data, Path) else data)]
