"""Make of the channels of a training job files or a folder, as `ncf train --data` reads them."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncf.data.adjacency import is_adjacency
from ncf.data.paper_format import PAPER_FILES
from ncf.data.prepare import prepare
from ncf.data.prepared import MANIFEST
from ncf.data.splits import SPLITS
from ncf.errors import InputError
from ncf.files.find import find_files, tables_among
from ncf.job.channels import Channel, files_in, tables_in
from ncf.training.config import TrainConfig

log = logging.getLogger(__name__)

SHARDED = "ShardedByS3Key"


@dataclass(frozen=True)
class JobData:
    """The files or the folder to train on; the tables of items' metadata and of features, and the earlier run, None for
    one not given."""

    paths: list[Path]
    items: Path | None
    item_features: Path | None = None
    user_features: Path | None = None
    init: Path | None = None


def gather(channels: Mapping[str, Channel], config: TrainConfig, scratch: Path, num_hosts: int = 1) -> JobData:
    """Find the data to train on, or make them in `scratch`. Raises InputError that names the channel and the remedy."""
    for channel in channels.values():
        if num_hosts > 1 and channel.distribution == SHARDED:
            raise InputError(
                f"channel '{channel.name}' is {SHARDED}, so each of {num_hosts} hosts has another part of it, and each "
                "needs all; choose FullyReplicated"
            )
    train, test = channels["train"], channels.get("test")
    has_header = not config.split.reading.no_header
    files = files_in(train, scratch, has_header)
    test_files = files_in(test, scratch, has_header) if test else []
    own = _own_split(train, files, test, test_files, scratch)
    if own is None:
        paths = _paths(train, files, scratch)
        paths = _held_out(paths, _paths(test, test_files, scratch), config, scratch) if test else paths
    items, for_items, for_users = (
        _table(channels.get(role), scratch) for role in ("items", "item_features", "user_features")
    )
    return JobData([own] if own else paths, items, for_items, for_users, _init(channels.get("model"), scratch))


def _own_split(
    train: Channel, files: Sequence[Path], test: Channel | None, test_files: Sequence[Path], scratch: Path
) -> Path | None:
    """The folder in the channels that has a split of its own (prepared, paper's, LightGCN's); None for tables."""
    if prepared := [file.parent for file in files if file.name == MANIFEST]:
        if len(prepared) > 1:
            raise InputError(f"channel '{train.name}' holds {len(prepared)} folders of `ncf prepare`; keep one")
        if test:
            raise InputError(
                f"channel '{train.name}' holds a folder of `ncf prepare`, which has its own held-out items; leave out "
                f"channel '{test.name}'"
            )
        return prepared[0]
    if train.mode != "Pipe" and not test and is_adjacency(train.path):
        return train.path
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


def _paths(channel: Channel, files: list[Path], scratch: Path) -> list[Path]:
    """The only table of a channel, or its folder, whose inner folders may be named `day=1`."""
    tables = tables_in(channel, files)
    if channel.mode == "Pipe" or not channel.path.is_dir() or not tables_among(files):
        return tables
    found = find_files([channel.path], scratch)
    return [channel.path] if len(found) > 1 or found[0].keys else tables


def _held_out(tables: Sequence[Path], held_out: Sequence[Path], config: TrainConfig, scratch: Path) -> list[Path]:
    """The folder of a split whose held-out items have a channel of their own."""
    if config.validation > 1:
        raise InputError(
            f"validation is {config.validation}; where held-out items have a channel of their own, the best epoch is "
            "chosen by one item of each user: leave it out, or give 0 to keep the last epoch"
        )
    for name, usual in (("held_out", 1), ("split", SPLITS[0]), ("test_share", None)):
        if (value := getattr(config.split, name)) != usual:
            raise InputError(f"{name} is {value}, and the held-out items have a channel of their own: leave it out")
    output = scratch / "prepared"
    made = prepare(tables, output, config.split, test=held_out, validation=bool(config.validation))
    held = f"{made.num_held_out:,}"
    log.info("%s interactions to train on, %s held out", f"{made.num_train:,}", held)
    return [output]


def _table(channel: Channel | None, scratch: Path) -> Path | None:
    if channel is None:
        return None
    tables = tables_in(channel, files_in(channel, scratch))
    if len(tables) > 1:
        raise InputError(
            f"channel '{channel.name}' holds {len(tables)} tables; keep one table, with one row for each id"
        )
    return tables[0]


def _init(channel: Channel | None, scratch: Path) -> Path | None:
    """The run directory of an earlier job: in the channel itself, or in its output.tar.gz, which is unpacked."""
    if channel is None:
        return None
    remedy = "give it the output.tar.gz of an earlier job, in mode File or FastFile, or a run directory"
    if channel.mode == "Pipe":
        raise InputError(f"channel '{channel.name}' is a pipe; {remedy}")
    folder = channel.path
    for number, archive in enumerate(sorted(folder.rglob("*.tar.gz"))):
        folder = scratch / channel.name
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(folder / str(number), filter="data")
        except (OSError, EOFError, tarfile.TarError) as error:
            raise InputError(f"channel '{channel.name}': {archive.name} cannot be unpacked: {error}") from error
    found = [file.parent for file in folder.rglob("result.json")]
    if len(found) != 1:
        raise InputError(f"channel '{channel.name}' holds {len(found) or 'no'} run{'s' * (len(found) > 1)}; {remedy}")
    return found[0]
