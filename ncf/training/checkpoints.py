"""Checkpoints: everything that a run needs to continue exactly where it was.

A file begins with a digest of its content and names the run that it belongs to. It is written under another name and
renamed, so it is complete or absent; damage is noticed, and a checkpoint of another run is refused.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncf.data.interactions import Interactions
from ncf.errors import InputError
from ncf.models.neural import NCF
from ncf.training.config import TrainConfig
from ncf.training.nothing_lost import OwnFiles

log = logging.getLogger(__name__)

MAGIC = b"ncf checkpoint 1\n"
KEPT = 3  # checkpoints of each stage, the newest; the best epoch's is kept in addition
SHARE = 0.05  # of the training time may be spent on writing: long epochs are all saved, short ones only now and then


@dataclass
class Checkpoints:
    """The checkpoints of one run in a folder; `identity` names the run, `resume` says whether to continue it.

    Checkpoints that are not in `own` were written by another process: they are read, but never replaced or removed.
    """

    folder: Path
    identity: dict[str, str]
    resume: bool
    own: OwnFiles = field(default_factory=OwnFiles)
    written: float = field(default=-float("inf"), init=False)
    cost: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        try:
            self.own.make_folder(self.folder)
        except OSError as error:
            raise InputError(f"cannot make the checkpoint folder {self.folder}: {error.strerror}") from error

    def files(self, stage: str) -> list[Path]:
        """The checkpoints of a stage, oldest first."""
        pattern = re.compile(rf"{re.escape(_name(stage))}-(\d{{6}})\.ckpt")
        return sorted(path for path in self.folder.iterdir() if pattern.fullmatch(path.name))

    def save(self, stage: str, epoch: int, state: dict[str, Any], best: int, stopped: str) -> None:
        """Write the state after an epoch if the last write is long enough ago, and remove superseded checkpoints.

        The newest checkpoints and the best epoch's stay. On a full disk this checkpoint is left out with a warning;
        the training and the checkpoint before it go on.
        """
        now = time.monotonic()
        if not stopped and epoch > 1 and now - self.written < self.cost / SHARE:
            return
        path = self.folder / f"{_name(stage)}-{epoch:06}.ckpt"
        if not self.own.claim(path):
            log.warning("%s is there already and was not written by this process; this epoch is not saved", path)
            return
        try:
            write_checkpoint(path, {"identity": self.identity, **state})
        except OSError as error:
            self.own.files.discard(path)
            log.warning("cannot write %s: %s; the checkpoint before it stays", path, error.strerror)
            return
        self.written = time.monotonic()
        self.cost = self.written - now
        keep = {*self.files(stage)[-KEPT:], self.folder / f"{_name(stage)}-{best:06}.ckpt"}
        for old in self.files(stage):
            if old not in keep and old in self.own.files:
                old.unlink(missing_ok=True)

    def latest(self, stage: str) -> dict[str, Any] | None:
        """The newest undamaged checkpoint of a stage, or None. Raises InputError if it belongs to another run."""
        if not self.resume:
            return None
        for path in reversed(self.files(stage)):
            try:
                state = read_checkpoint(path)
            except ValueError as error:
                log.warning("%s is damaged (%s); the checkpoint before it is used", path, error)
                continue
            self._check(path, state)
            return state
        return None

    def require_own(self) -> None:
        """Raises InputError if the folder holds checkpoints that this run must not touch."""
        there = sorted(self.folder.glob("*.ckpt"))
        if there and not self.resume:
            raise InputError(
                f"{self.folder} holds checkpoints already; --resume goes on with them, or choose another folder"
            )
        for path in there:
            with suppress(ValueError):  # damaged: `latest` warns of it
                self._check(path, read_checkpoint(path))
                return

    def _check(self, path: Path, state: dict[str, Any]) -> None:
        for what in self.identity | state["identity"]:
            its, mine = (names.get(what, "none") for names in (state["identity"], self.identity))
            if its != mine:
                raise InputError(
                    f"{path} belongs to a run with {what} {its}, this run has {mine}; "
                    "give the options of that run, or another folder for the checkpoints"
                )


def _name(stage: str) -> str:
    return re.sub(r"\W+", "-", stage) or "epoch"


def identity_of(config: TrainConfig, fit: Interactions, init: NCF | None = None) -> dict[str, str]:
    """The names and values that must be equal for one run to continue another: all settings, the data, the beginning.

    `init` is the model that training starts with.
    """
    settings = {name: str(value) for name, value in config.to_dict().items() if name != "columns"}
    start = {} if init is None else {"init": _digest_of(init)}
    return {**settings, "data": fingerprint(fit), **start}


def _digest_of(model: NCF) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for values in model.state_dict().values():
        digest.update(values.cpu().numpy().data)
    return digest.hexdigest()


def fingerprint(fit: Interactions) -> str:
    """A digest of interactions, with their order and weights."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(f"{fit.num_users} {fit.num_items} ".encode())
    for values in (fit.user_index, fit.item_index, fit.weight):
        if values is not None:
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a file whole or not at all: under another name first, then renamed. Raises OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    with part.open("xb") as file:
        try:
            file.write(MAGIC + hashlib.blake2b(content, digest_size=32).digest())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read the state that `write_checkpoint` wrote. Raises ValueError for a damaged file."""
    content = path.read_bytes()
    start = len(MAGIC) + 32
    if not content.startswith(MAGIC):
        raise ValueError("it does not begin like a checkpoint of this version")
    body = memoryview(content)[start:]
    if hashlib.blake2b(body, digest_size=32).digest() != content[len(MAGIC) : start]:
        raise ValueError("its digest does not fit its content")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return state
