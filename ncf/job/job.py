"""A training job by SageMaker's contract, from the files under /opt/ml to the model repository
(https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html).
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ncf.data.load import load_split
from ncf.errors import NO_TORCH, InputError
from ncf.job.cause import LaunchError
from ncf.job.channels import read_channels
from ncf.job.data import JobData, gather
from ncf.job.hosts import Hosts, read_hosts
from ncf.job.launch import MASTER_PORT, launch
from ncf.job.result import EVALUATION, check_items, evaluate_run, export_run
from ncf.job.settings import JobSettings, as_options, hyperparameters, read_settings
from ncf.training.config import TrainConfig
from ncf.training.cost import require_one_model, require_one_process
from ncf.training.nothing_lost import undisturbed

log = logging.getLogger(__name__)

HELP = """Usage: train [--NAME VALUE ...]

  Train as a SageMaker training job: data in /opt/ml/input/data/train (or under SAGEMAKER_BASE_DIR), the model
  repository into /opt/ml/model. Hyper-parameters come from /opt/ml/input/config/hyperparameters.json and from
  arguments; they are the options of `ncf train`, and model_name, k, max_time, processes (docs/training-jobs.md).

  Example:
    SAGEMAKER_BASE_DIR=job train --model gmf --epochs 5 --model_name my_model"""
FAILURE_LIMIT = 1024  # SageMaker shows so many characters of the failure file; we write at most so many bytes
STOPPED_EARLY = "the job was stopped before there was a model to write"


@dataclass(frozen=True)
class TrainingJob:
    """A training job: its folders, and `run`, which trains and exports."""

    base: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()

    @classmethod
    def from_environment(cls, arguments: Sequence[str]) -> TrainingJob:
        return cls(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")), dict(os.environ), arguments)

    @property
    def model_directory(self) -> Path:
        """The platform packs it as model.tar.gz: a Triton model repository that `serve` can serve."""
        return Path(self.environment.get("SM_MODEL_DIR") or self.base / "model")

    @property
    def output_directory(self) -> Path:
        """The platform packs it as output.tar.gz."""
        return self.base / "output" / "data"

    @property
    def run_directory(self) -> Path:
        return self.output_directory / "run"

    @property
    def checkpoints(self) -> Path | None:
        """The platform copies this folder to S3 and restores it when a job is restarted; None if there is no folder."""
        path = self.base / "checkpoints"
        return path if path.is_dir() else None

    @property
    def event_files(self) -> Path | None:
        """The folder for TensorBoard's event files; None if the platform made none."""
        path = self.base / "output" / "tensorboard"
        return path if path.is_dir() else None

    def run(self) -> int:
        """Train, export, and return the exit code; the reason of a failure is written to output/failure."""
        if name := self.environment.get("TRAINING_JOB_NAME"):
            log.info("training job %s", name)
        try:
            self._train()
        except InputError as error:
            return self._failed(_as_hyperparameters(str(error)), 2)
        except LaunchError as error:
            return self._failed(str(error), 1)
        except OSError as error:  # such as a file that cannot be read
            full = "; give the job a larger volume" if error.errno == errno.ENOSPC else ""
            return self._failed(f"{error}{full}", 1)
        except KeyboardInterrupt:
            return self._failed(STOPPED_EARLY, 1)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            return self._failed(NO_TORCH, 1)
        except Exception as error:
            self._report_failure(f"{type(error).__name__}: {error}")
            raise
        return 0

    def check_outputs(self) -> None:
        """Check before the training that the results can be written. Raises OSError or InputError."""
        for folder in (self.model_directory, self.output_directory, *filter(None, [self.checkpoints])):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                raise OSError(
                    f"cannot write into {folder}: {error.strerror}; mount {self.base} so that user {os.getuid()} may "
                    "write to it, not read-only"
                ) from error
        if self._finished():
            raise InputError(f"{self.run_directory} holds the run of an earlier job; give this one an empty folder")
        if (self.output_directory / EVALUATION).exists():
            raise InputError(
                f"{self.output_directory / EVALUATION} is of an earlier job; give this one an empty folder"
            )

    def _train(self) -> None:
        import torch  # noqa: F401  if it is missing, report that before any other error

        if not self.base.is_dir():
            raise InputError(
                f"SAGEMAKER_BASE_DIR {self.base} is no folder; mount one with the data in input/data/train "
                f"(docker run -v FOLDER:{self.base} … train)"
            )
        config = self.base / "input" / "config"
        settings = read_settings(config / "hyperparameters.json", self.arguments)
        hosts = read_hosts(config / "resourceconfig.json")
        require_one_process(settings.config, max(1, settings.processes) * len(hosts.names))
        channels = read_channels(self.base, self.environment)
        self.check_outputs()
        with _scratch() as scratch:
            data = gather(channels, settings.config, scratch, len(hosts.names))
            check_items(data.items, settings.config.split.columns.item_name)
            stopped = self._fit(settings, hosts, data)
            if hosts.rank:
                log.info("%s writes the model", hosts.names[0])
                return
            with undisturbed("the export of the model") as received:
                export_run(self.run_directory, self.model_directory, settings, data.items)
            if stopped or received:
                log.info("the job was stopped: the held-out items are not evaluated")
            else:
                evaluate_run(self.run_directory, self.output_directory, settings, data)

    def _fit(self, settings: JobSettings, hosts: Hosts, data: JobData) -> bool:
        """Train a run in the run directory of the first host; returns whether the job was stopped by a signal."""
        from ncf.training.loop import INTERRUPTED
        from ncf.training.run import Life, choose_device, train_run

        processes = processes_here(settings, hosts, data.paths)
        try:
            if processes * len(hosts.names) > 1:
                port = int(self.environment.get("MASTER_PORT") or MASTER_PORT)
                if data.item_features or data.user_features:
                    require_one_model(settings.config, processes * len(hosts.names))
                stopped = launch(hosts, processes, self._options(settings, data), port)
            else:
                life = Life(True, self.checkpoints, settings.max_seconds, self.event_files, init=data.init)
                device = choose_device(settings.device)
                features = data.item_features, data.user_features
                result = train_run(data.paths, self.run_directory, settings.config, device, life, *features)
                stopped = result is not None and result.stopped == INTERRUPTED
        except (KeyboardInterrupt, LaunchError) as error:
            if not self._finished():
                raise
            log.warning("an error after the end of the training: %s", error or "SIGTERM")
            stopped = isinstance(error, KeyboardInterrupt)
        if stopped and hosts.rank == 0 and not self._finished():
            raise KeyboardInterrupt
        return stopped

    def _options(self, settings: JobSettings, data: JobData) -> list[str]:
        options = [f"--output={self.run_directory}", f"--device={settings.device}", "--resume"]
        options += [f"--data={path}" for path in data.paths]
        others = ("checkpoints", self.checkpoints), ("tensorboard", self.event_files), ("init", data.init)
        for name, folder in others:
            if folder:
                options.append(f"--{name}={folder}")
        if settings.max_seconds < math.inf:
            options.append(f"--max-time={settings.max_seconds:f}")
        return options + as_options(settings.config)

    def _finished(self) -> bool:
        return (self.run_directory / "result.json").exists()

    def _failed(self, reason: str, code: int) -> int:
        log.error("%s", reason)
        self._report_failure(reason)
        return code

    def _report_failure(self, reason: str) -> None:
        folder = self.base / "output"
        content = reason.encode(errors="replace")[:FAILURE_LIMIT].decode(errors="ignore").encode()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "failure").write_bytes(content)
        except OSError as error:
            log.error("cannot write %s: %s", folder / "failure", error.strerror)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what pipes held; messages name its files without the folder, which is not the user's."""
    with tempfile.TemporaryDirectory(prefix="ncf-train-") as folder:
        try:
            yield Path(folder)
        except InputError as error:
            text = str(error)
            for link in Path(folder).glob("*/*"):
                if link.is_symlink():
                    text = text.replace(str(link), str(link.readlink()))
            raise InputError(text.replace(f"{folder}/", "")) from error


def _as_hyperparameters(text: str) -> str:
    """A message that names options of `ncf train`, with the hyper-parameters that stand for them."""
    known = {*hyperparameters(), "columns"}
    names = {f"--{name.replace('_', '-')}": name for name in known}
    return re.sub(r"--[a-z][a-z-]+", lambda option: names.get(option[0], option[0]), text)


def processes_here(settings: JobSettings, hosts: Hosts, data: Sequence[Path]) -> int:
    """The number of processes on this host: as configured, else one for each GPU, else 1; 1 for exact training.

    Raises InputError if there are fewer GPUs than configured processes.
    """
    import torch

    gpus = torch.cuda.device_count() if settings.device != "cpu" else 0
    if settings.processes:
        if 0 < gpus < settings.processes:
            raise InputError(
                f"hyperparameter 'processes' is {settings.processes}, each takes a GPU, and this host has {gpus}; "
                "leave it out, or give device cpu"
            )
        return settings.processes
    if gpus > 1 and len(hosts.names) == 1 and is_for_one(settings.config, data):
        log.info("one of %d GPUs is used: exact training and folded models are made by one process", gpus)
        return 1
    return max(1, gpus)


def is_for_one(config: TrainConfig, data: Sequence[Path]) -> bool:
    """Whether only one process can train; if the way of training is open, it is decided on the data."""
    from ncf.training.cost import choose_negatives

    if config.is_folded:
        return True
    if config.negatives != "auto":
        return config.negatives == "exact"
    train = load_split(data, config.split).train
    return choose_negatives(config, train.num_users, train.num_items, len(train))[0] == "exact"
