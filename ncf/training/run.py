"""Train on a file or folder and write the run directory."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from ncf.data.load import load_split
from ncf.errors import InputError
from ncf.training import recipe
from ncf.training.checkpoints import Checkpoints, identity_of
from ncf.training.config import TrainConfig
from ncf.training.cost import require_one_process
from ncf.training.loop import Epoch, TrainResult, Watch
from ncf.training.progress import EventFiles, TrainingProgress
from ncf.training.run_directory import CHECKPOINTS
from ncf.training.run_writer import append_metrics, begin_run, finish_run, new_run_directory
from ncf.training.undisturbed import undisturbed
from ncf.training.world import joined_world, world_size


@dataclass(frozen=True)
class Life:
    """Where a run begins and ends: `resume` continues from `checkpoints` (None: a folder in the run directory)."""

    resume: bool = False
    checkpoints: Path | None = None
    max_seconds: float = math.inf
    tensorboard: Path | None = None


def choose_device(name: str) -> torch.device:
    """The device for cpu, gpu or auto (a GPU if there is one). Raises InputError for gpu without a GPU."""
    if name == "gpu" and not torch.cuda.is_available():
        raise InputError("--device gpu: PyTorch finds no CUDA device here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train_run(
    data: Path, output: Path, config: TrainConfig, device: torch.device, life: Life | None = None
) -> TrainResult | None:
    """Train on a file or folder and write a run directory; everything is checked before the directory is made.

    Returns None in the processes of a distributed training that do not write. Raises InputError.
    """
    life = life or Life()
    deadline = time.monotonic() + life.max_seconds
    require_one_process(config, world_size())
    with joined_world(device) as world:  # before the data are read, so that an error in one process ends the others
        split = load_split(data, config.split)
        plan = recipe.plan(split, config, device, world.size)
        identity = identity_of(plan.config, plan.fit)
        if world.share(identity["data"]) != identity["data"]:
            raise InputError("this process has other data than the first process; every process needs all of the data")
        if not world.first:
            with suppress(KeyboardInterrupt):  # the first process gets the signal as well, and writes the best epoch
                recipe.train(plan, device, Watch(world=world))
            return None
        with (
            new_run_directory(output, plan.config, life.resume) as own,
            EventFiles(life.tensorboard) as events,
            TrainingProgress(plan.config) as progress,
        ):
            checkpoints = Checkpoints(life.checkpoints or output / CHECKPOINTS, identity, life.resume, own)
            checkpoints.require_own()
            begin_run(output, own, plan.config, data, device)

            def on_restored(epoch: Epoch) -> None:
                append_metrics(output, epoch.to_dict())
                progress.on_epoch(epoch)

            def on_epoch(epoch: Epoch) -> None:
                on_restored(epoch)
                events.on_epoch(epoch)

            progress.say(plan.reason)
            watch = Watch(progress.on_step, on_epoch, on_restored, progress.say, checkpoints, deadline, world)
            result = recipe.train(plan, device, watch)
            with undisturbed("the run"):
                finish_run(output, own, split, result)
                if life.checkpoints is None:
                    own.remove(inside=output / CHECKPOINTS)  # a finished run is not continued
                    if (output / CHECKPOINTS).exists():
                        progress.say(f"{output / CHECKPOINTS} holds files of an earlier process; they may be deleted")
    return result
