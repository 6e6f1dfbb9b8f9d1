"""The run directory: all files of a training run."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import polars as pl
import torch

from ncf.data.interactions import IdIndex, IntArray, Interactions
from ncf.data.splits import HeldOut, Split
from ncf.errors import InputError
from ncf.models.learned_features import LearnedFeatures
from ncf.models.neural import NCF, build_model
from ncf.models.seen import SeenItems
from ncf.models.warm_start import warm_start
from ncf.training.config import TrainConfig

log = logging.getLogger(__name__)

FILES = {
    "config.json": "the configuration with seed and column names, the data, and what was read of them (look)",
    "versions.json": "versions of the software, and the device",
    "metrics.jsonl": "a line for each epoch: loss, samples/s, HR@10 and NDCG@10 on the items that choose the epoch",
    "result.json": "the best epoch, null for a model made of several; it is written last, so a run without it is not "
    "finished",
    "users.parquet": "column user_id; the row number is the user_index",
    "items.parquet": "column item_id; the row number is the item_index",
    "interactions.npz": "item_index of every known interaction, held-out ones included, by user: see indptr (CSR); the "
    "pairs that are held out, and those that chose the epoch",
    "weights.pt": "the model's weights at the best epoch (a PyTorch state_dict)",
}

# Of a run with --refit, in the folder `refit`: the model that export, recommend and vectors take. It may have more
# users and items: those that were held out with all of their interactions.
REFITTED = ("users.parquet", "items.parquet", "interactions.npz", "weights.pt")
REFIT = "refit"

FEATURES = "features.pt"  # of a run with features: how they are encoded, and the rows of their values
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
    """A loaded, finished run: `known` are all interactions of its data, `held_out` a digest of its held-out pairs.

    A `refitted` one has the model that was fitted to the held-out interactions as well.
    """

    path: Path
    config: TrainConfig
    users: IdIndex
    items: IdIndex
    known: SeenItems
    model: NCF
    held_out: str
    refitted: bool = False

    @property
    def folder(self) -> Path:
        """Where the files of this model are."""
        return self.path / REFIT if self.refitted else self.path


def held_out_name(split: Split) -> str:
    """A digest of the held-out pairs in any order: evaluation and training must hold out the same pairs."""
    key = np.sort(split.held_out.user_index.astype(np.int64) * split.train.num_items + split.held_out.item_index)
    return hashlib.blake2b(key.tobytes(), digest_size=8).hexdigest()


def load_run(path: Path, device: torch.device | str = "cpu", refitted: bool = False) -> Run:
    """Load a finished run; with `refitted` the model to serve, which is the refitted one if the run has it.

    Raises InputError if there is no run, or a file is missing or damaged.
    """
    if not (path / "config.json").exists():
        raise InputError(f"{path} is no run directory; `ncf train --output {path}` makes one")
    missing = [name for name in FILES if not (path / name).exists()]
    if missing:
        raise InputError(f"{path} is no finished run: {', '.join(missing)} is missing; train again")
    try:
        config = TrainConfig.from_dict(json.loads((path / "config.json").read_text()))
        result = json.loads((path / "result.json").read_text())
        refitted = refitted and result.get("refit") is not None
        folder = path / REFIT if refitted else path
        users = IdIndex(pl.read_parquet(folder / "users.parquet")["user_id"])
        items = IdIndex(pl.read_parquet(folder / "items.parquet")["item_id"])
        with (folder / "interactions.npz").open("rb") as file, np.load(file, allow_pickle=False) as known:
            indptr, item_index = (torch.from_numpy(known[name]).long() for name in ("indptr", "item_index"))
        if len(indptr) != len(users) + 1 or int(indptr[-1]) != len(item_index):
            raise ValueError("interactions.npz does not fit users.parquet")
        seen = SeenItems.of_csr(indptr, item_index, len(items))
        model = build_model(config.model, len(users), len(items), config.result_factors, config.num_layers)
        model.load_state_dict(torch.load(folder / "weights.pt", map_location="cpu", weights_only=True))
        held_out = str(result["held_out"])
    except (*BROKEN, pl.exceptions.PolarsError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be loaded: {reason}; train again") from error
    return Run(path, config, users, items, seen, model.to(device).eval(), held_out, refitted)


def load_features(run: Run) -> LearnedFeatures | None:
    """What a run learned about the values of features; None for a run without. Raises InputError if it is damaged."""
    file = run.folder / FEATURES
    if not file.exists():
        return None
    try:
        return LearnedFeatures.from_bytes(file.read_bytes())
    except BROKEN as error:
        raise InputError(f"{file} cannot be loaded, for it is damaged; train again") from error


def pairs_of(name: str, held_out: HeldOut) -> dict[str, IntArray]:
    """Held-out items as arrays of interactions.npz; `own_split` reads them."""
    found = {f"{name}_user_index": held_out.user_index, f"{name}_item_index": held_out.item_index}
    if held_out.negatives is not None:
        found[f"{name}_negatives"] = held_out.negatives
    return {key: values.astype(np.int32) for key, values in found.items()}


def own_split(run: Run) -> Split:
    """The split that the run was trained on, without weights and times. Raises InputError for a run of before."""
    with np.load(run.path / "interactions.npz", allow_pickle=False) as file:
        arrays = dict(file)
    if "held_out_user_index" not in arrays:
        raise InputError(f"{run.path} was written by an earlier version without its held-out items; give --data")

    def held_out(name: str) -> HeldOut | None:
        if f"{name}_user_index" not in arrays:
            return None
        user, item = (arrays[f"{name}_{what}_index"].astype(np.int64) for what in ("user", "item"))
        return HeldOut(user, item, arrays.get(f"{name}_negatives"))

    test, validation = held_out("held_out"), held_out("validation")
    assert test is not None
    user = np.repeat(np.arange(len(run.users)), np.diff(arrays["indptr"]))
    item = arrays["item_index"].astype(np.int64)
    pair = user * len(run.items) + item
    aside = [each.user_index * len(run.items) + each.item_index for each in (test, validation) if each is not None]
    kept = ~np.isin(pair, np.concatenate(aside))
    return Split(Interactions(run.users, run.items, user[kept], item[kept]), test, validation)


def require_start(earlier: Run, split: Split, config: TrainConfig) -> None:
    """Warns if the earlier run was trained on what is held out now. Raises InputError if no model can start from it."""
    if config.is_folded:
        raise InputError(
            "init goes on with one model; members, closed_form and fold_factors fold several, which a run does not "
            "keep: leave init out",
            field="init",
        )
    if config.loss == "spectral":
        raise InputError("init has no effect on loss spectral, which starts from nothing; leave it out", field="init")
    sizes: list[tuple[str, object, object]] = [("model", earlier.config.model, config.model)]
    sizes.append(("num_factors", earlier.config.result_factors, config.num_factors))
    if config.model != "gmf":
        sizes.append(("num_layers", earlier.config.num_layers, config.num_layers))
    for name, theirs, mine in sizes:
        if theirs != mine:
            raise InputError(
                f"init is {earlier.path}, a run with {name} {theirs}, and here {name} is {mine}; give {name} {theirs}, "
                "or leave init out",
                field="init",
            )
    places = []
    for what, own, others in (
        ("user", split.train.users, earlier.users), ("item", split.train.items, earlier.items),
    ):  # fmt: skip
        theirs, mine = ("whole numbers" if ids.ids.dtype == pl.Int64 else "text" for ids in (others, own))
        if theirs != mine:
            problem = f"whose {what} ids are {theirs}, and those of the data are {mine}"
        elif ((place := others.encode(own.ids)) < 0).all():
            problem = f"and none of its {what}s is in the data"
        else:
            places.append(place)
            continue
        raise InputError(
            f"init is {earlier.path}, {problem}; give data with the ids of that run, or leave init out", field="init"
        )
    with suppress(InputError):  # a run of before does not say what it was trained on
        trained, held = own_split(earlier).train, split.held_out.reindex(*places)
        keys = [each.user_index * len(earlier.items) + each.item_index for each in (held, trained)]
        if again := int(np.isin(keys[0], keys[1]).sum()):
            log.warning(
                "%s was trained on %s of the %s interactions that are held out now: the figures will be too high",
                *(earlier.path, f"{again:,}", f"{len(split.held_out):,}"),
            )


def warm(model: NCF, fit: Interactions, config: TrainConfig, earlier: Run) -> NCF:
    """Give a new model on the CPU the parameters of an earlier run; returns it."""
    user_of, item_of = (
        torch.from_numpy(others.encode(own.ids))
        for own, others in ((fit.users, earlier.users), (fit.items, earlier.items))
    )
    seen = SeenItems.of_interactions(fit)
    return warm_start(model, earlier.model, earlier.known, seen, user_of, item_of, config.negatives == "exact")


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
