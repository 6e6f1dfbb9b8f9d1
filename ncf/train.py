"""From data to a run directory."""

from __future__ import annotations

from pathlib import Path

import torch

from ncf.checkpoint import append_metrics, begin_run, finish_run, new_run_directory
from ncf.config import TrainConfig
from ncf.errors import InputError
from ncf.progress import TrainingProgress
from ncf.splits import load_split
from ncf.trainer import Epoch, TrainResult, train


def choose_device(name: str) -> torch.device:
    """The device behind cpu, gpu or auto (gpu where there is one). Raises InputError for a gpu that is not there."""
    if name == "gpu" and not torch.cuda.is_available():
        raise InputError("--device gpu: PyTorch finds no CUDA device here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train_run(data: Path, output: Path, config: TrainConfig, device: torch.device) -> TrainResult:
    """Train on a file or folder and leave a run directory; everything the user gave is checked before it is made."""
    split = load_split(data, config.columns, config.seed)
    with new_run_directory(output), TrainingProgress(config.epochs) as progress:
        begin_run(output, config, data, device)

        def on_epoch(epoch: Epoch) -> None:
            append_metrics(output, epoch.to_dict())
            progress.on_epoch(epoch)

        result = train(split, config, device, progress.on_step, on_epoch)
        finish_run(output, split, result)
    return result
