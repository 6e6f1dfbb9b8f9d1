"""The run directory: all files of a training run."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import polars as pl
import torch

from ncf.data.interactions import IdIndex
from ncf.data.splits import Split
from ncf.errors import InputError
from ncf.models.neural import NCF, build_model
from ncf.models.seen import SeenItems, known_items
from ncf.training.config import TrainConfig
from ncf.training.loop import TrainResult
from ncf.training.own_files import OwnFiles

log = logging.getLogger(__name__)

FILES = {
    "config.json": "the configuration, seed and column names included",
    "versions.json": "versions of the software, and the device",
    "metrics.jsonl": "a line for each epoch: loss, samples/s, HR@10 and NDCG@10 on the items that choose the epoch",
    "result.json": "the best epoch; it is written last, so a run without it is not finished",
    "users.parquet": "column user_id; the row number is the user_index",
    "items.parquet": "column item_id; the row number is the item_index",
    "interactions.npz": "item_index of every known interaction, held-out ones included, by user: see indptr (CSR)",
    "weights.pt": "the model's weights at the best epoch (a PyTorch state_dict)",
}

CHECKPOINTS = "checkpoints"  # beside the files above, unless --checkpoints names another folder

# Exceptions of reading a damaged file of a run, weights.pt included.
BROKEN = (
    OSError,
    EOFError,
    LookupError,
    AttributeError,
    ValueError,
    RuntimeError,
    TypeError,
    BadZipFile,
    UnpicklingError,
)


@dataclass(frozen=True)
class Run:
    """A loaded, finished run: `known` are all interactions of its data, `held_out` a digest of its held-out pairs."""

    path: Path
    config: TrainConfig
    users: IdIndex
    items: IdIndex
    known: SeenItems
    model: NCF
    held_out: str


@contextmanager
def new_run_directory(path: Path, config: TrainConfig, resume: bool = False) -> Iterator[OwnFiles]:
    """Make a run directory; if training fails before its first checkpoint, remove the files that this process wrote.

    Raises InputError if the folder is not empty; with `resume` it may hold an unfinished run of this configuration.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        there = unfinished_run(path)
        if not (resume and there):
            hint = ""
            if there:
                hint = ", or delete it if its run is not needed; --resume goes on with its unfinished run"
            elif (path / "result.json").exists():
                hint = ", or delete it if its run is not needed"
            raise InputError(f"{path} exists already; choose another --output{hint}")
        _require_same(path, there, config)
    own = OwnFiles()
    try:
        own.make_folder(path)
    except OSError as error:
        raise InputError(f"cannot make the run directory {path}: {error.strerror}; choose another --output") from error
    try:
        yield own
    finally:
        if not (path / "result.json").exists() and not any(file.suffix == ".ckpt" for file in own.files):
            own.remove()


def unfinished_run(path: Path) -> TrainConfig | None:
    """The configuration of the unfinished run in a folder; None if the folder holds anything else."""
    if (path / "result.json").exists():
        return None
    try:
        values = json.loads((path / "config.json").read_bytes())
        if not {"model", "num_factors", "negatives", "seed", "data"} <= values.keys():
            return None
        return TrainConfig.from_dict(values)
    except (OSError, ValueError, TypeError, AttributeError, InputError):
        return None


def _require_same(path: Path, there: TrainConfig, config: TrainConfig) -> None:
    own, others = config.to_dict(), there.to_dict()
    for name, value in own.items():
        if name != "columns" and others[name] != value:
            raise InputError(
                f"{path} holds the unfinished run with {name} {others[name]}, this run has {value}; give what that run "
                "was given, or another --output"
            )


def begin_run(path: Path, own: OwnFiles, config: TrainConfig, data: Path, device: torch.device) -> None:
    """Write the files that precede the first epoch. A resumed run appends the lines of its restored epochs again."""
    for name in ("config.json", "versions.json"):
        own.claim(path / name)
    if not own.claim(path / "metrics.jsonl"):
        (path / "metrics.jsonl").write_text("")
    _write_json(path / "config.json", {**config.to_dict(), "data": str(data)})
    _write_json(
        path / "versions.json",
        {
            "ncf-triton": _version("ncf-triton"),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "platform": platform.platform(),
            "device": str(device),
        },
    )


def append_metrics(path: Path, values: dict[str, Any]) -> None:
    """Append a line to metrics.jsonl; if that fails, warn and go on."""
    try:
        with (path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:
        log.warning("cannot write %s: %s", path / "metrics.jsonl", error.strerror)


def finish_run(path: Path, own: OwnFiles, split: Split, result: TrainResult) -> None:
    """Write ids, interactions, weights and, last, the result. Raises InputError if that fails.

    An existing README.md was written by the user, and stays.
    """
    for name in FILES:
        own.claim(path / name)
    try:
        _write_results(path, split, result, readme=own.claim(path / "README.md"))
    except OSError as error:
        (path / "result.json").unlink(missing_ok=True)  # this process wrote it: a run with a result is not resumed
        raise InputError(
            f"cannot write the run into {path}: {error.strerror}; make room, and --resume goes on from its checkpoints"
        ) from error


def _write_results(path: Path, split: Split, result: TrainResult, readme: bool) -> None:
    train, held_out = split.train, split.held_out
    for name, ids in (("user", train.users.ids), ("item", train.items.ids)):
        with _written(path / f"{name}s.parquet") as buffer:
            ids.alias(f"{name}_id").to_frame().write_parquet(buffer)
    known = known_items(split, torch.device("cpu")).including(held_out.user_index, held_out.item_index)
    # Not compressed, because compressing takes longer than an epoch of a large catalogue.
    np.savez(path / "interactions.npz", indptr=known.indptr.numpy(), item_index=known.items.int().numpy())
    with _written(path / "weights.pt") as buffer:
        torch.save({name: value.cpu() for name, value in result.model.state_dict().items()}, buffer)
    best = result.best
    if readme:
        (path / "README.md").write_text(_readme(path, train.num_users, train.num_items, result))
    _write_json(
        path / "result.json",
        {
            "best_epoch": best.epoch,
            "epochs": len(result.epochs),
            "stopped": result.stopped,
            "loss": best.loss,
            "hold_out": {"HR@10": best.hit_rate_at_10, "NDCG@10": best.ndcg_at_10},
            "num_users": train.num_users,
            "num_items": train.num_items,
            "num_interactions": len(known.items),
            "held_out": held_out_name(split),
        },
    )


def held_out_name(split: Split) -> str:
    """A digest of the held-out pairs in any order: evaluation and training must hold out the same pairs."""
    key = np.sort(split.held_out.user_index.astype(np.int64) * split.train.num_items + split.held_out.item_index)
    return hashlib.blake2b(key.tobytes(), digest_size=8).hexdigest()


@contextmanager
def _written(path: Path) -> Iterator[io.BytesIO]:
    """A buffer whose content is written to the file, because torch and Polars raise no OSError on a full disk."""
    buffer = io.BytesIO()
    yield buffer
    path.write_bytes(buffer.getbuffer())


def load_run(path: Path, device: torch.device | str = "cpu") -> Run:
    """Load a finished run. Raises InputError if there is none, or a file is missing or damaged."""
    if not path.is_dir():
        raise InputError(f"{path} is no run directory; `ncf train --output {path}` makes one")
    missing = [name for name in FILES if not (path / name).exists()]
    if missing:
        raise InputError(f"{path} is no finished run: {', '.join(missing)} is missing; train again")
    try:
        config = TrainConfig.from_dict(json.loads((path / "config.json").read_text()))
        users = IdIndex(pl.read_parquet(path / "users.parquet")["user_id"])
        items = IdIndex(pl.read_parquet(path / "items.parquet")["item_id"])
        with (path / "interactions.npz").open("rb") as file, np.load(file, allow_pickle=False) as known:
            indptr, item_index = (torch.from_numpy(known[name]).long() for name in ("indptr", "item_index"))
        if len(indptr) != len(users) + 1 or int(indptr[-1]) != len(item_index):
            raise ValueError("interactions.npz does not fit users.parquet")
        seen = SeenItems.of_csr(indptr, item_index, len(items))
        model = build_model(config.model, len(users), len(items), config.result_factors, config.num_layers)
        held_out = str(json.loads((path / "result.json").read_text())["held_out"])
        model.load_state_dict(torch.load(path / "weights.pt", map_location="cpu", weights_only=True))
    except (*BROKEN, pl.exceptions.PolarsError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be loaded: {reason}; train again") from error
    return Run(path, config, users, items, seen, model.to(device).eval(), held_out)


def _readme(path: Path, num_users: int, num_items: int, result: TrainResult) -> str:
    hit_rate = result.best.hit_rate_at_10
    quality = "no hold-out was cut" if hit_rate is None else f"HR@10 {hit_rate:.4f} on the hold-out"
    lines = [
        f"# Run {path.name}",
        "",
        f"{num_users} users, {num_items} items; {result.config.model}, best epoch {result.best.epoch}, {quality}.",
        "",
        *(f"- `{name}`: {what}" for name, what in FILES.items()),
        "",
        f"    ncf evaluate --run {path} --data PATH",
        f"    ncf export --run {path} --repository model_repository --name {path.name}",
        "",
    ]
    return "\n".join(lines)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that have an epoch and a loss; other lines are skipped."""
    found = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and all(isinstance(values.get(key), int | float) for key in ("epoch", "loss")):
            found.append(values)
    return found
