"""SageMaker's training contract: the files under /opt/ml
(https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html).
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from ncf.config import DEFAULT_K, DEVICES, TrainConfig, configure
from ncf.errors import NO_TORCH, InputError
from ncf.interactions import SUFFIXES, Columns
from ncf.publish import check_request

log = logging.getLogger(__name__)

CHANNELS = ("train", "training")
FAILURE_LIMIT = 1024  # what SageMaker shows of the failure file

JOB_HYPERPARAMETERS: dict[str, type] = {
    "preset": str,
    "model_name": str,
    "k": int,
    "device": str,
    "user_column": str,
    "item_column": str,
    "weight_column": str,
    "timestamp_column": str,
}


def hyperparameters() -> dict[str, type]:
    """Every hyper-parameter and its type: the fields of TrainConfig, and what concerns the job."""
    fields = get_type_hints(TrainConfig)
    return {name: kind for name, kind in fields.items() if name != "columns"} | JOB_HYPERPARAMETERS


@dataclass(frozen=True)
class JobSettings:
    """The hyper-parameters of a job, typed."""

    config: TrainConfig
    model_name: str
    k: int
    device: str


@dataclass(frozen=True)
class TrainingJob:
    """The folders of one training job, and the job itself."""

    base: Path

    @classmethod
    def from_environment(cls) -> TrainingJob:
        return cls(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")))

    @property
    def model_directory(self) -> Path:
        """Becomes model.tar.gz: a Triton model repository that `serve` serves as it is."""
        return self.base / "model"

    @property
    def run_directory(self) -> Path:
        return self.base / "output" / "data" / "run"

    def settings(self) -> JobSettings:
        """Read hyperparameters.json. Raises InputError for a name or value that cannot be."""
        path = self.base / "input" / "config" / "hyperparameters.json"
        try:
            given = json.loads(path.read_text()) if path.exists() else {}
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is no JSON: {error}") from error
        if not isinstance(given, dict):
            raise InputError(f"{path} must hold an object of hyper-parameters")
        known = hyperparameters()
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name.startswith("sagemaker_"):  # the SDK's own
                continue
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"
                raise InputError(f"hyperparameter '{name}' is unknown{hint}")
            try:
                values[name] = known[name](str(text).strip('"'))
            except ValueError as error:
                kind = "a whole number" if known[name] is int else "a number"
                raise InputError(f"hyperparameter '{name}' is '{text}'; it must be {kind}") from error
        device = values.get("device", "auto")
        if device not in DEVICES:
            raise InputError(f"hyperparameter 'device' is '{device}'; choose {', '.join(DEVICES)}")
        model_name, k = values.get("model_name", "ncf_model"), values.get("k", DEFAULT_K)
        check_request(model_name, None, k)  # now, not after hours of training
        overrides = {name: value for name, value in values.items() if name not in JOB_HYPERPARAMETERS}
        names = {"user": "user_id", "item": "item_id", "weight": "weight", "timestamp": "timestamp"}
        columns = {field: values[f"{word}_column"] for word, field in names.items() if f"{word}_column" in values}
        return JobSettings(
            configure(values.get("preset"), {**overrides, "columns": Columns(**columns)}),
            model_name,
            k,
            device,
        )

    def data(self) -> Path:
        """The one data file of the train channel, or its folder if that is in the NCF paper's format."""
        if not self.base.is_dir():
            raise InputError(
                f"SAGEMAKER_BASE_DIR {self.base} is no folder; mount one with the data in input/data/train "
                f"(docker run -v FOLDER:{self.base} … train)"
            )
        root = self.base / "input" / "data"
        channel = next((root / name for name in CHANNELS if (root / name).is_dir()), None)
        if channel is None:
            raise InputError(f"{root} has no channel named {' or '.join(CHANNELS)}; name the input channel 'train'")
        if any(channel.glob("*.train.rating")):
            return channel
        files = sorted(path for path in channel.rglob("*") if path.suffix.lower() in SUFFIXES)
        if len(files) != 1:
            found = ", ".join(path.name for path in files) or "none"
            raise InputError(f"{channel} must hold exactly one {', '.join(SUFFIXES)} file (found: {found})")
        return files[0]

    def check_outputs(self) -> None:
        """Raises OSError if the results could not be written: now, not after hours of training."""
        for folder in (self.model_directory, self.run_directory.parent):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                raise OSError(
                    f"cannot write into {folder}: {error.strerror}; mount {self.base} so that user {os.getuid()} may "
                    "write to it, not read-only"
                ) from error

    def run(self) -> int:
        """Train, export, and return the exit code; a failure's reason is left where SageMaker looks for it."""
        try:
            self._train()
        except InputError as error:
            return self._failed(str(error), 2)
        except OSError as error:  # such as a file that may not be read
            return self._failed(str(error), 1)
        except KeyboardInterrupt:
            return self._failed("the job was stopped before there was a model to write", 1)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            return self._failed(NO_TORCH, 1)
        except Exception as error:
            self._report_failure(f"{type(error).__name__}: {error}")
            raise
        return 0

    def _train(self) -> None:
        from ncf.checkpoint import load_run
        from ncf.export import export
        from ncf.train import choose_device, train_run

        settings, data = self.settings(), self.data()
        self.check_outputs()
        result = train_run(data, self.run_directory, settings.config, choose_device(settings.device))
        run = load_run(self.run_directory)
        exported = export(run, self.model_directory, settings.model_name, k=settings.k, device=settings.device)
        best = result.epochs[result.best_epoch - 1]
        log.info("best epoch %d: HR=%.4f; NDCG=%.4f;", best.epoch, best.hit_rate_at_10, best.ndcg_at_10)
        log.info("wrote %s and %s", exported.score, exported.topk)

    def _failed(self, reason: str, code: int) -> int:
        log.error("%s", reason)
        self._report_failure(reason)
        return code

    def _report_failure(self, reason: str) -> None:
        folder = self.base / "output"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "failure").write_text(reason[:FAILURE_LIMIT])
        except OSError as error:
            log.error("cannot write %s: %s", folder / "failure", error.strerror)
