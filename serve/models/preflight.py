"""Finds models that cannot be loaded here before Triton is started: Triton reports them late and without a remedy.

Only problems that are certain are reported; a model that Triton may be able to load is left to Triton.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from serve.triton.gpus import count_gpus
from serve.triton.model_config import read_config
from serve.triton.native import is_ours

PLATFORMS = {
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
    "tensorflow_graphdef": "tensorflow",
    "tensorflow_savedmodel": "tensorflow",
    "tensorrt_plan": "tensorrt",
}
DIGITS = re.compile(r"[0-9]+", re.ASCII)
FLATBUFFER = b"PTMF"  # after four other bytes: the form of TorchScript that is no zip file


def problem(model: Path, backends: Path | None, shown_whole: bool = True) -> str | None:
    """Why no version of a model can be loaded here; None if that is not certain.

    `model` is its folder in a repository, which Triton sees as it is if `shown_whole`; of a recommender it sees the
    versions alone. `backends` is the folder of Triton's backends, None if it is not known.
    """
    try:
        return _problem(model, backends, shown_whole)
    except OSError as error:
        return unreadable(error)


def unreadable(error: OSError) -> str:
    """The message about a file or folder that cannot be read."""
    why = f"{error.filename} cannot be read by user {os.getuid()}: {error.strerror}"
    return f"{why}; let everybody read it (chmod -R a+rX)"


def _problem(model: Path, backends: Path | None, shown_whole: bool) -> str | None:
    config = _config(model)
    if config is None or config.runtime or config.platform == "ensemble":
        return None
    file, backend = model / "config.pbtxt", _backend(config)
    if backend and backends:
        names = sorted(path.name for path in backends.iterdir())
        # A model may bring its own backend; and there were two of tensorflow, whose names only begin with it.
        own = any(any(model.glob(pattern)) for pattern in ("libtriton_*", "*/libtriton_*"))
        if not own and not any(name.startswith(backend) for name in names):
            return (
                f"{file} asks for the backend {backend!r}, and this Triton has {', '.join(names)}; take an image whose "
                'Triton has it, or export the model for one of these (`ncf export` writes platform: "pytorch_libtorch")'
            )
    if any(group.kind == group.KIND_GPU for group in config.instance_group) and not count_gpus():
        return (
            f"{file} asks for a GPU (KIND_GPU), and there is none here; start the container with --gpus all, or export "
            "the model with --device cpu or auto"
        )
    if shown_whole and (why := _misnamed(model, config)) is not None:
        return why
    versions = sorted((path for path in model.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    if not versions:
        return f"{model} has no version; put the files of the first version into {model / '1'}"
    if (why := without_code(model, config)) is not None:
        return why
    # NVIDIA's libtorch backend may read other formats, too; those of `serve` read TorchScript only.
    ours = backend == "pytorch" and backends is not None and is_ours(backends)
    if (ours or config.platform == "pytorch_libtorch") and not config.cc_model_filenames:
        reasons = [_unreadable(version / (config.default_model_filename or "model.pt")) for version in versions]
        return reasons[-1] if all(reasons) else None
    return None


def _misnamed(model: Path, config: Any) -> str | None:
    """Which folder Triton takes for a version that is not there: any whose name begins with digits."""
    numbers: dict[int, str] = {}
    for path in model.iterdir():
        if (digits := DIGITS.match(path.name)) and path.is_dir():
            numbers[int(digits[0])] = path.name
    for number in loaded(config, sorted(numbers)):
        if not (model / str(number)).is_dir():
            return (
                f"Triton takes {model / numbers[number]} for version {number}; give it a name that does not begin with "
                "a digit, or move it elsewhere"
            )
    return None


def loaded(config: Any, numbers: list[int]) -> list[int]:
    """Those of a model's versions that Triton loads."""
    policy = config.version_policy
    if policy.HasField("all"):
        return numbers
    if policy.HasField("specific"):
        return [number for number in numbers if number in policy.specific.versions]
    return numbers[-(policy.latest.num_versions or 1) :]


def without_code(model: Path, config: Any) -> str | None:
    """Which version of a model in Python has no code: Triton 2.51 would wait for its process for ever."""
    numbers = sorted(int(each.name) for each in model.iterdir() if each.name.isdecimal() and each.is_dir())
    file = config.default_model_filename or "model.py"
    for number in loaded(config, numbers) if config.backend == "python" else ():
        if not (model / str(number) / file).is_file():
            return f"{model.name} has no {number}/{file}; copy it, or remove version {number}"
    return None


def instances_in_python(models: Iterable[Path], backends: Path | None) -> int:
    """How many processes of the Python backend the models need at least; with an ensemble Triton loads its steps."""
    folders, count = list(models), 0
    for folder in folders:  # steps are appended meanwhile
        if (config := _config(folder)) is not None:
            found = [folder.parent / step.model_name for step in config.ensemble_scheduling.step]
            folders += [each for each in dict.fromkeys(found) if each not in folders]
            if backends and _in_python(_backend(config), backends):
                count += sum(max(1, group.count) for group in config.instance_group) or 1
    return count


def _in_python(backend: str, backends: Path) -> bool:
    """Whether a backend's models run in processes of the Python backend: it is that backend, or is based on it."""
    folder = backends / backend
    return backend == "python" or ((folder / "model.py").is_file() and not any(folder.glob("*.so")))


def _config(model: Path) -> Any | None:
    """A model's configuration; None if it has none, or if it cannot be read."""
    try:
        return read_config((model / "config.pbtxt").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _backend(config: Any) -> str:
    """The backend's name; empty if the configuration leaves it to Triton."""
    return str(config.backend) or PLATFORMS.get(config.platform, "")


def _unreadable(file: Path) -> str | None:
    """Why a file is no TorchScript, judged by its beginning and its end; None if it looks like one."""
    try:
        with file.open("rb") as opened:
            head = opened.read(8)
    except FileNotFoundError:
        return f"{file} is missing; copy it, or export the model again"
    except OSError as error:
        return unreadable(error)
    if head[4:] == FLATBUFFER or zipfile.is_zipfile(file):
        return None
    reason = "its end is missing" if head.startswith(b"PK") else "it is no such file"
    return f"{file} cannot be loaded as TorchScript: {reason}; copy it again, or export the model again"
