"""Write model versions into a Triton model repository: each appears as a whole or not at all."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ncf.errors import InputError
from ncf.export.triton_config import ModelConfig

log = logging.getLogger(__name__)


def check_request(name: str, version: int | None, k: int) -> None:
    """Raises InputError for an invalid name, version or k."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
        raise InputError(
            f"'{name}' is no model name; use letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    for suffix in ("_topk", "_query"):
        if name.endswith(suffix):
            raise InputError(f"'{name}' ends in {suffix}, which is reserved for the other models of a recommender")
    if version is not None and not 1 <= version < 2**31:
        raise InputError(f"version is {version}; it must be at least 1 and below 2147483648")
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1")


class PartNames(NamedTuple):
    """The names that the models of one recommender have; not every version has `topk`."""

    score: str
    topk: str
    query: str


def part_names(name: str) -> PartNames:
    return PartNames(name, f"{name}_topk", f"{name}_query")


def parts_of(repository: Path, name: str, version: int) -> tuple[str, ...]:
    """The models of a recommender's version, as its recommender.json names them; empty if that cannot be read."""
    try:
        described = json.loads((repository / name / str(version) / "recommender.json").read_text())
        topk = [described["topk_model"]] if "topk_model" in described else []
        return (name, *map(str, topk), str(described["query_model"]))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def has_topk(repository: Path, name: str) -> bool:
    """Whether the newest version of a recommender has `<name>_topk`; False for a new recommender."""
    newest = max(_visible(repository / name), default=0)
    return part_names(name).topk in parts_of(repository, name, newest)


def free_version(repository: Path, names: PartNames, version: int | None) -> int:
    """The version to write, by default the next free one. Raises InputError if a model has or had the version."""
    taken = set[int]().union(*(versions(repository / part) for part in names))
    if version is None:
        return max(taken, default=0) + 1
    if version in taken:
        raise InputError(
            f"{repository / names.score} has or had a version {version}; the next free is {max(taken) + 1}"
        )
    return version


def versions(model: Path) -> set[int]:
    """The versions of a model, withdrawn ones included."""
    found = (re.fullmatch(r"(?:\.withdrawn-)?([0-9]{1,10})", folder.name) for folder in model.glob("*"))
    return {int(match[1]) for match in found if match}


@contextmanager
def staging_folder(repository: Path) -> Iterator[Path]:
    """Context manager: a folder on the file system of the repository, which serve and Triton ignore.

    One export at a time writes into a repository. Others wait for its lock, which the kernel frees if the process dies.
    A killed export leaves its folder. It is named in a warning and not deleted: its name does not prove who made it.
    """
    with ExitStack() as undo:
        try:
            repository.mkdir(parents=True, exist_ok=True)
            lock = os.open(repository, os.O_RDONLY)
            undo.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in repository.glob(".export-*"):
                log.warning("%s is left over from an export that was killed; delete it if it is not yours", left)
            staging = Path(tempfile.mkdtemp(prefix=".export-", dir=repository))
        except OSError as error:
            reason = f"cannot write into {repository}: {error.strerror}; choose another --repository"
            raise InputError(reason) from error
        undo.callback(shutil.rmtree, staging, ignore_errors=True)
        yield staging


def place_config(config: ModelConfig, staged: Path, existing: Path) -> None:
    """Stage config.pbtxt for a new model; an existing model keeps its file, which may have been tuned."""
    text = config.to_pbtxt()
    if not os.path.lexists(existing / "config.pbtxt"):
        (staged / "config.pbtxt").write_text(text)
        return
    there, new = _parse(existing / "config.pbtxt"), _parse(text)
    if list(there.input) != list(new.input) or list(there.output) != list(new.output):
        raise InputError(
            f"{existing / 'config.pbtxt'} describes other inputs or outputs than this export (another --k?); "
            "export with the same k or under a new --name"
        )


def place_warmup(rows: dict[str, list[tuple[int, int]]], staged: Path) -> None:
    """Stage the files that the warm-up of a staged config.pbtxt reads: int64, row after row."""
    if not (staged / "config.pbtxt").exists():
        return
    (staged / "warmup").mkdir()
    for name, values in rows.items():
        (staged / "warmup" / name).write_bytes(np.array(values, "<i8").tobytes())


def _parse(config: Path | str) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2  # slow to import, and only needed for a second version

    try:
        text = config.read_text() if isinstance(config, Path) else config
    except OSError as error:
        raise InputError(f"{config} cannot be read: {error.strerror}; mend it or export under a new --name") from error
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise InputError(f"{config} is no config.pbtxt: {error}; correct it or export under a new --name") from error


def publish(staged: Path, target: Path, version: int) -> None:
    """Make a staged model visible by one rename: of the model's directory, or of a version in an existing one."""
    if target.exists():
        for beside in (*staged.glob("warmup/*"), *staged.glob("config.pbtxt")):
            place = target / beside.relative_to(staged)
            if not os.path.lexists(place):
                place.parent.mkdir(exist_ok=True)
                beside.rename(place)
        (staged / str(version)).rename(target / str(version))
    else:
        staged.chmod(0o755)
        staged.rename(target)


def rollback(repository: Path, name: str, version: int | None = None) -> tuple[int, list[int]]:
    """Withdraw all versions newer than `version`, by default the newest; return the live version and those withdrawn.

    A withdrawn version is renamed to `.withdrawn-<version>`, which Triton and `serve` ignore; nothing is deleted.
    Raises InputError if there is no older version.
    """
    with staging_folder(repository):
        parts = {each: parts_of(repository, name, each) for each in _visible(repository / name)}
        # The scoring model first: without its recommender.json `serve` no longer uses the version.
        names = list(dict.fromkeys([name, part_names(name).query, *chain.from_iterable(parts.values())]))
        there = {part: _visible(repository / part) for part in names}
        whole = sorted(each for each, models in parts.items() if models and all(each in there[part] for part in models))
        if not whole:
            raise InputError(f"{repository} has no version of a recommender '{name}'; `ncf export` writes one")
        if version is None and len(whole) < 2:
            raise InputError(f"{name} has version {whole[0]} only in {repository}; there is nothing to go back to")
        target = whole[-2] if version is None else version
        if target not in whole:
            raise InputError(f"{name} has no whole version {target} in {repository}; there is {_listed(whole)}")
        if target == whole[-1]:
            raise InputError(f"version {target} is the newest of {name} already; to go back choose an older one")
        withdrawn = sorted(each for each in set.union(*there.values()) if each > target)
        moves = [
            (repository / part / str(each), repository / part / f".withdrawn-{each}")
            for each in reversed(withdrawn)
            for part in names
            if (repository / part / str(each)).exists()
        ]
        for _, kept in moves:
            if kept.exists():
                raise InputError(f"{kept} is there already; move it away, or delete it, and roll back again")
        for folder, kept in moves:
            folder.rename(kept)
    return target, withdrawn


def _visible(model: Path) -> set[int]:
    return {int(folder.name) for folder in model.glob("*") if re.fullmatch(r"[1-9][0-9]{0,9}", folder.name)}


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
