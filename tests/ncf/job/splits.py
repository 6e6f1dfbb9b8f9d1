"""The split that a job makes of its channels, as pairs of raw ids."""

from __future__ import annotations

from pathlib import Path

from ncf.data.load import load_split
from ncf.data.splits import HeldOut, Split
from ncf.job.channels import read_channels
from ncf.job.data import JobData, gather
from ncf.training.config import TrainConfig
from tests.support.jobs import Job

Pairs = set[tuple[object, object]]


def gathered(job: Job, scratch: Path, config: TrainConfig | None = None, **environment: str) -> JobData:
    return gather(read_channels(job.base, environment), config or TrainConfig(), scratch)


def split_in(job: Job, scratch: Path, **environment: str) -> Split:
    return load_split(gathered(job, scratch, **environment).paths)


def trained_on(split: Split) -> Pairs:
    """What a run may learn from, the item that chooses the epoch included."""
    found = held(split, HeldOut(split.train.user_index, split.train.item_index))
    return found | (held(split, split.validation) if split.validation else set())


def held(split: Split, held_out: HeldOut) -> Pairs:
    users, items = split.train.users, split.train.items
    return set(zip(users.decode(held_out.user_index), items.decode(held_out.item_index), strict=True))


def pairs(rows: list[tuple[str, str, int]]) -> Pairs:
    return {(user, item) for user, item, _ in rows}


def same(one: Split, other: Split) -> bool:
    return trained_on(one) == trained_on(other) and held(one, one.held_out) == held(other, other.held_out)
