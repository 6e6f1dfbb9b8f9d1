"""Putting model versions into a Triton model repository: whole or not at all."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ncf.errors import InputError
from ncf.triton_config import ModelConfig


def check_request(name: str, version: int | None, k: int) -> None:
    """Raises InputError for a name, version or k that no export can have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
        raise InputError(
            f"'{name}' is no model name; use letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    if name.endswith("_topk"):
        raise InputError(f"'{name}' ends in _topk, which is kept for the second model of a recommender")
    if version is not None and not 1 <= version < 2**31:
        raise InputError(f"version is {version}; it must be at least 1 and below 2147483648")
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1")


def free_version(repository: Path, name: str, topk_name: str, version: int | None) -> int:
    """The version to write, by default the next that neither model has. Raises InputError if one has it."""
    taken = versions(repository / name) | versions(repository / topk_name)
    if version is None:
        return max(taken, default=0) + 1
    if version in taken:
        raise InputError(f"{repository / name} has a version {version} already; the next free is {max(taken) + 1}")
    return version


def versions(model: Path) -> set[int]:
    return {int(folder.name) for folder in model.glob("*") if re.fullmatch(r"[0-9]{1,10}", folder.name)}


@contextmanager
def staging_folder(repository: Path) -> Iterator[Path]:
    """A folder on the repository's own file system; serve and Triton ignore it.

    One export at a time works on a repository: the others wait for its lock, which the system frees when a process
    dies. The staging folder that a killed export left is cleared first; what has a model's name is never touched.
    """
    with ExitStack() as undo:
        try:
            repository.mkdir(parents=True, exist_ok=True)
            lock = os.open(repository, os.O_RDONLY)
            undo.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in repository.glob(".export-*"):
                shutil.rmtree(left, ignore_errors=True)
            staging = Path(tempfile.mkdtemp(prefix=".export-", dir=repository))
        except OSError as error:
            reason = f"cannot write into {repository}: {error.strerror}; choose another --repository"
            raise InputError(reason) from error
        undo.callback(shutil.rmtree, staging, ignore_errors=True)
        yield staging


def place_config(config: ModelConfig, staged: Path, existing: Path) -> None:
    """Stage config.pbtxt for a new model; of a model that is there keep the file, which its owner may have tuned."""
    text = config.to_pbtxt()
    if not (existing / "config.pbtxt").exists():
        (staged / "config.pbtxt").write_text(text)
        return
    there, new = _parse(existing / "config.pbtxt"), _parse(text)
    if list(there.input) != list(new.input) or list(there.output) != list(new.output):
        raise InputError(
            f"{existing / 'config.pbtxt'} describes other inputs or outputs than this export (another --k, or a "
            "catalogue smaller than k); export with the same k or under a new --name"
        )


def _parse(config: Path | str) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2  # slow to import, and needed for a second version only

    text = config.read_text() if isinstance(config, Path) else config
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise InputError(f"{config} is no config.pbtxt: {error}; correct it or export under a new --name") from error


def publish(staged: Path, target: Path, version: int) -> None:
    """Make a staged model visible by one rename: the whole directory, or a version in one that is there."""
    if target.exists():
        (staged / str(version)).rename(target / str(version))
        if (staged / "config.pbtxt").exists():
            (staged / "config.pbtxt").rename(target / "config.pbtxt")
    else:
        staged.chmod(0o755)
        staged.rename(target)
