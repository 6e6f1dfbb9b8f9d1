"""Write the run directory of a training."""

from __future__ import annotations

import io
import json
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncf.data.interactions import IntArray, Interactions
from ncf.data.splits import Split
from ncf.errors import InputError
from ncf.models.learned_features import LearnedFeatures
from ncf.models.neural import NCF
from ncf.models.seen import SeenItems, known_items
from ncf.training.config import TrainConfig
from ncf.training.loop import TrainResult
from ncf.training.nothing_lost import OwnFiles
from ncf.training.recipe import cut
from ncf.training.run_directory import FEATURES, FILES, REFIT, REFITTED, held_out_name, pairs_of

log = logging.getLogger(__name__)

WRITTEN = (*REFITTED, FEATURES)
RESULTS = (*WRITTEN, *(f"{REFIT}/{name}" for name in WRITTEN), "result.json")  # of a finished run


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
    for name in own | others:
        if name != "columns" and own.get(name) != others.get(name):
            raise InputError(
                f"{path} holds an unfinished run with {name} {others.get(name)}, this run has {own.get(name)}; give "
                "the options of that run, or another --output"
            )


def begin_run(path: Path, own: OwnFiles, config: TrainConfig, about: dict[str, Any], device: torch.device) -> None:
    """Write the files that precede the first epoch; `about` are the data and the like.

    A resumed run appends the lines of its restored epochs again.
    """
    for name in ("config.json", "versions.json"):
        own.claim(path / name)
    if not own.claim(path / "metrics.jsonl"):
        (path / "metrics.jsonl").write_text("")
    _write_json(path / "config.json", {**config.to_dict(), **about})
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

    An existing README.md was written by the user, and stays. Other files with the name of a result are set aside.
    """
    try:
        if result.refit is not None:
            own.make_folder(path / REFIT)
        for name in RESULTS:
            if kept := own.set_aside(path / name):
                log.warning("%s was not written by this process; it is %s now", path / name, kept.name)
        _write_results(path, split, result, readme=own.claim(path / "README.md"))
    except OSError as error:
        (path / "result.json").unlink(missing_ok=True)  # this process wrote it: a run with a result is not resumed
        raise InputError(
            f"cannot write the run into {path}: {error.strerror}; make room, and --resume goes on from its checkpoints"
        ) from error


def _write_results(path: Path, split: Split, result: TrainResult, readme: bool) -> None:
    train, held_out, refit = split.train, split.held_out, result.refit
    known = known_items(split, torch.device("cpu")).including(held_out.user_index, held_out.item_index)
    chosen_by = cut(split, result.config)[1]
    validation = {} if chosen_by is None else pairs_of("validation", chosen_by)
    _write_model(path, train, known, result.model, result.features, **pairs_of("held_out", held_out), **validation)
    if refit is not None:
        _write_model(path / REFIT, refit.fit, SeenItems.of_interactions(refit.fit), refit.model, refit.features)
    if readme:
        (path / "README.md").write_text(_readme(path, train.num_users, train.num_items, result))
    _write_json(
        path / "result.json",
        {
            "origin": result.origin,
            "best_epoch": None if result.best is None else result.best.epoch,
            "epochs": len(result.epochs),
            "stopped": result.stopped,
            "loss": result.loss,
            "hold_out": {"HR@10": result.hit_rate_at_10, "NDCG@10": result.ndcg_at_10},
            "num_users": train.num_users,
            "num_items": train.num_items,
            "num_interactions": len(known.items),
            "held_out": held_out_name(split),
            "refit": None
            if refit is None
            else {
                "num_users": refit.fit.num_users,
                "num_items": refit.fit.num_items,
                "num_interactions": len(refit.fit),
            },
        },
    )


def _write_model(
    path: Path, fit: Interactions, known: SeenItems, model: NCF, features: LearnedFeatures | None, **more: IntArray
) -> None:
    """Write ids, known interactions, weights and, if there are any, learned features into a folder."""
    for name, ids in (("user", fit.users.ids), ("item", fit.items.ids)):
        with _written(path / f"{name}s.parquet") as buffer:
            ids.alias(f"{name}_id").to_frame().write_parquet(buffer)
    # Not compressed, because compressing takes longer than an epoch of a large catalogue.
    arrays: dict[str, Any] = {"indptr": known.indptr.numpy(), "item_index": known.items.int().numpy(), **more}
    np.savez(path / "interactions.npz", **arrays)
    with _written(path / "weights.pt") as buffer:
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, buffer)
    if features is not None:
        (path / FEATURES).write_bytes(features.to_bytes())


@contextmanager
def _written(path: Path) -> Iterator[io.BytesIO]:
    """A buffer whose content is written to the file, because torch and Polars raise no OSError on a full disk."""
    buffer = io.BytesIO()
    yield buffer
    path.write_bytes(buffer.getbuffer())


def _readme(path: Path, num_users: int, num_items: int, result: TrainResult) -> str:
    hit_rate = result.hit_rate_at_10
    quality = "no hold-out was cut" if hit_rate is None else f"HR@10 {hit_rate:.4f} on the hold-out"
    lines = [
        f"# Run {path.name}",
        "",
        f"{num_users} users, {num_items} items; {result.config.model}, {result.origin}, {quality}.",
        "",
        *(f"- `{name}`: {what}" for name, what in FILES.items()),
        *([f"- `{FEATURES}`: how features are encoded, and the vectors of their values"] if result.features else []),
        *([] if result.refit is None else [f"- `{REFIT}/`: the model fitted to held-out interactions as well"]),
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
