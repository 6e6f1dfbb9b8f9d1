"""Make of the channels of a training job one file or folder, as `ncf train --data` reads it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ncf.data.interactions import Columns
from ncf.data.paper_format import PAPER_FILES
from ncf.data.prepare import prepare
from ncf.data.prepared import MANIFEST
from ncf.data.stream import open_source
from ncf.data.tables import readable
from ncf.errors import InputError
from ncf.job.channels import Channel, files_in, tables_in
from ncf.training.config import TrainConfig

log = logging.getLogger(__name__)

SHARDED = "ShardedByS3Key"


@dataclass(frozen=True)
class JobData:
    """The file or folder to train on, and the table of items' metadata, if there is one."""

    path: Path
    items: Path | None


def gather(channels: Mapping[str, Channel], config: TrainConfig, scratch: Path, num_hosts: int = 1) -> JobData:
    """Find the data to train on, or make them in `scratch`. Raises InputError that names the channel and the remedy."""
    for channel in channels.values():
        if num_hosts > 1 and channel.distribution == SHARDED:
            raise InputError(
                f"channel '{channel.name}' is {SHARDED}, so each of {num_hosts} hosts has another part of it, and each "
                "needs all; choose FullyReplicated"
            )
    train, test = channels["train"], channels.get("test")
    files = files_in(train, scratch)
    test_files = files_in(test, scratch) if test else []
    data = _own_split(train, files, test, test_files, scratch)
    if data is None:
        tables = tables_in(train, files, scratch)
        held_out = tables_in(test, test_files, scratch) if test else []
        data = _tables(tables, held_out, config, scratch)
    return JobData(data, _items(channels.get("items"), scratch))


def _own_split(
    train: Channel, files: Sequence[Path], test: Channel | None, test_files: Sequence[Path], scratch: Path
) -> Path | None:
    """The folder in the channels that has a split of its own (prepared, or the paper's format); None for tables."""
    if prepared := [file.parent for file in files if file.name == MANIFEST]:
        if len(prepared) > 1:
            raise InputError(f"channel '{train.name}' holds {len(prepared)} folders of `ncf prepare`; keep one")
        if test:
            raise InputError(
                f"channel '{train.name}' holds a folder of `ncf prepare`, which has its own held-out items; leave out "
                f"channel '{test.name}'"
            )
        return prepared[0]
    of_train, *of_test = PAPER_FILES
    if not (ratings := [file for file in files if file.match(of_train)]):
        return None
    links = scratch / "paper"
    links.mkdir()
    chosen = ratings
    for pattern in of_test:
        chosen += [file for file in test_files if file.match(pattern)] or [f for f in files if f.match(pattern)]
    if test and not any(file in test_files for file in chosen):
        raise InputError(
            f"channel '{train.name}' is in the NCF paper's format, and channel '{test.name}' holds no "
            f"{' or '.join(of_test)}; put them there, or leave the channel out"
        )
    for number, file in enumerate(chosen):
        (links / f"{number}-{file.name}").symlink_to(file.absolute())
    return links


def _tables(tables: Sequence[Path], held_out: Sequence[Path], config: TrainConfig, scratch: Path) -> Path:
    if len(tables) == 1 and not held_out:
        return tables[0]
    if (
        not held_out and config.validation != 1
    ):  # `prepare` always cuts one item of each user for the choice of the epoch
        one_table(tables, scratch / "data.parquet", config.split.columns)
        return scratch / "data.parquet"
    if config.validation > 1:
        raise InputError(
            f"validation is {config.validation}; where held-out items have a channel of their own, the best epoch is "
            "chosen by one item of each user: leave it out, or give 0 to keep the last epoch"
        )
    output = scratch / "prepared"
    made = prepare(tables, output, config.split, test=held_out, validation=bool(config.validation))
    held = f"{made.num_held_out:,}"
    log.info("%d files: %s interactions to train on, %s held out", len(tables), f"{made.num_train:,}", held)
    return output


def one_table(paths: Sequence[Path], output: Path, columns: Columns) -> None:
    """Write the rows of several tables to one Parquet file. Raises InputError for a table that cannot be read."""
    source = open_source(paths, columns)
    names = [name for name in source.names.values() if name]
    with readable(output):
        frames = [part.frame.select(names) for part in source.parts]
        pl.concat(frames, how="vertical_relaxed").sink_parquet(output)


def _items(channel: Channel | None, scratch: Path) -> Path | None:
    if channel is None:
        return None
    tables = tables_in(channel, files_in(channel, scratch), scratch)
    if len(tables) > 1:
        raise InputError(
            f"channel '{channel.name}' holds {len(tables)} tables; keep one table, with one row for each item"
        )
    return tables[0]
