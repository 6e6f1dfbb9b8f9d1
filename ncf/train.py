"""From data to a run directory, and the `train` verb of the image."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch

from ncf.checkpoint import append_metrics, begin_run, finish_run, new_run_directory
from ncf.config import TrainConfig
from ncf.errors import InputError
from ncf.progress import TrainingProgress
from ncf.sagemaker import TrainingJob
from ncf.splits import load_split
from ncf.trainer import Epoch, TrainResult, train

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "gpu")


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


def main() -> None:
    """The `train` verb: SageMaker's training contract under SAGEMAKER_BASE_DIR."""
    from ncf.export import export  # scripting is needed at the very end only
    from ncf.checkpoint import load_run  # noqa: I001

    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    job = TrainingJob.from_environment()
    try:
        settings = job.settings()
        result = train_run(job.data(), job.run_directory, settings.config, choose_device(settings.device))
        run = load_run(job.run_directory)
        exported = export(run, job.model_directory, settings.model_name, k=settings.k, device=settings.device)
        best = result.epochs[result.best_epoch - 1]
        log.info("best epoch %d: HR=%.4f; NDCG=%.4f; Loss=%.4f;", best.epoch, best.hit_rate_at_10, best.ndcg_at_10, best.loss)  # fmt: skip  # noqa: E501
        log.info("wrote %s and %s", exported.score, exported.topk)
    except InputError as error:
        job.report_failure(str(error))
        log.error("%s", error)
        sys.exit(2)
    except Exception as error:
        job.report_failure(f"{type(error).__name__}: {error}")
        raise
