"""The input channels of a training job: folders of files, or pipes, which can be read only once."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ncf.errors import InputError
from ncf.files.find import LOOSE, TABLES, Found, hidden, tables_among
from ncf.files.unpack import PACKED
from ncf.job.contract import read_object

log = logging.getLogger(__name__)

ROLES = {
    "train": ("train", "training"),
    "test": ("test",),
    "items": ("items",),
    "model": ("model",),  # so do SageMaker's own algorithms call the channel of an earlier model
    "item_features": ("item_features",),
    "user_features": ("user_features",),
}  # the SDK calls its only channel training
MODES = ("File", "FastFile", "Pipe")
# The file ending of each content type, for pipes and for files without one of our endings.
CONTENT_SUFFIXES = {
    "text/csv": ".csv",
    "application/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/tsv": ".tsv",
    "application/jsonlines": ".jsonl",
    "application/x-ndjson": ".jsonl",
    "application/x-parquet": ".parquet",
    "application/parquet": ".parquet",
    "application/vnd.apache.parquet": ".parquet",
}


@dataclass(frozen=True)
class Channel:
    """One channel: its folder, or the FIFO of the first epoch if it is a pipe."""

    name: str
    path: Path
    content_type: str = ""
    mode: str = "File"
    distribution: str = "FullyReplicated"

    @property
    def suffix(self) -> str:
        """The file ending of the content type, empty without a content type. Raises InputError."""
        kind = self.content_type.partition(";")[0].strip().lower()
        if kind and kind not in CONTENT_SUFFIXES:
            raise InputError(
                f"channel '{self.name}' has content type '{self.content_type}'; choose {', '.join(CONTENT_SUFFIXES)}"
            )
        return CONTENT_SUFFIXES.get(kind, "")


def read_channels(base: Path, environment: Mapping[str, str]) -> dict[str, Channel]:
    """The channels by role: those in inputdataconfig.json, else one for each folder in input/data.

    SM_CHANNEL_TRAIN, SM_CHANNEL_TEST and so on name other folders. Raises InputError for an invalid channel,
    and without a channel for training.
    """
    root = base / "input" / "data"
    config = base / "input" / "config" / "inputdataconfig.json"
    found = {}
    for name, options in read_object(config).items():
        if not isinstance(options, dict):
            raise InputError(f'{config}: channel \'{name}\' must be an object, such as {{"ContentType": "text/csv"}}')
        found[name] = _channel(name, options, root)
    if not found and root.is_dir():
        found = {folder.name: Channel(folder.name, folder) for folder in sorted(root.iterdir()) if folder.is_dir()}
    names = [name for role in ROLES.values() for name in role]
    for name in names:
        if where := environment.get(f"SM_CHANNEL_{name.upper()}"):
            found[name] = replace(found.get(name, Channel(name, Path())), path=Path(where), mode="File")
    if unused := sorted(found.keys() - set(names)):
        log.warning("unknown channels that are not read: %s; the names are %s", ", ".join(unused), ", ".join(names))
    channels = {}
    for role, called in ROLES.items():
        given = [found[name] for name in called if name in found]
        if len(given) > 1:
            raise InputError(f"channels {' and '.join(called)} are both given and have the same meaning; leave one out")
        if given:
            channels[role] = given[0]
    if "train" not in channels:
        others = f" (found: {', '.join(sorted(found))})" if found else ""
        wanted = " or ".join(ROLES["train"])
        raise InputError(f"{root} has no channel named {wanted}{others}; name the input channel 'train'")
    return channels


def _channel(name: str, options: Mapping[str, object], root: Path) -> Channel:
    mode = str(options.get("TrainingInputMode") or "File")
    if mode not in MODES:
        raise InputError(f"channel '{name}' has TrainingInputMode '{mode}'; choose {', '.join(MODES)}")
    if (wrapper := options.get("RecordWrapperType")) not in (None, "None"):
        raise InputError(f"channel '{name}' has RecordWrapperType '{wrapper}'; choose None: files are read as they are")
    return Channel(
        name,
        root / (f"{name}_0" if mode == "Pipe" else name),
        str(options.get("ContentType") or ""),
        mode,
        str(options.get("S3DistributionType") or "FullyReplicated"),
    )


def files_in(channel: Channel, scratch: Path, has_header: bool = True) -> list[Path]:
    """The files of a channel in the order of their names, without hidden ones; a pipe is read into files.

    Raises InputError if there is no file.
    """
    if channel.mode == "Pipe":
        return _spool(channel, scratch, has_header)
    path = channel.path
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"channel '{channel.name}' is not there: {path} does not exist")
    inside = sorted(path.rglob("*"))
    files = [file for file in inside if file.is_file() and not hidden(file.relative_to(path))]
    if not files:
        raise InputError(f"channel '{channel.name}' is empty: {path} holds no file")
    return files


def tables_in(channel: Channel, files: list[Path]) -> list[Path]:
    """The tables among the files of a channel. Raises InputError if there is none, or several kinds of them."""
    tables = tables_among(files)
    if not tables and channel.suffix:  # keys in S3 may have no ending: then the content type counts
        return files
    if not tables:
        raise InputError(
            f"channel '{channel.name}' ({channel.path}) holds no file that ends in {', '.join((*TABLES, *LOOSE))}, "
            f"compressed or not (found: {_some(files)}); name files so, or give the channel a content type, such as "
            "text/csv"
        )
    if len({Found(table, table.name).suffix for table in tables}) > 1:
        raise InputError(f"channel '{channel.name}' holds tables of several kinds ({_some(tables)}); keep one kind")
    return tables


def _some(files: list[Path]) -> str:
    return ", ".join([file.name for file in files[:5]] + ["…"] * (len(files) > 5))


def _spool(channel: Channel, scratch: Path, has_header: bool) -> list[Path]:
    """Read a pipe into files. SageMaker joins the objects in S3, and not each ends with a line break.

    A header with the same columns in another order begins another file; equal headers stay, and the reader leaves them
    out.
    """
    suffix = channel.suffix or ".csv"
    if suffix == ".parquet":
        raise InputError(
            f"channel '{channel.name}' is a pipe of Parquet, which cannot be read from front to back; choose FastFile"
        )
    if not channel.path.exists():
        raise InputError(f"channel '{channel.name}' is not there: {channel.path}, its pipe, does not exist")
    targets: list[Path] = []
    with channel.path.open("rb") as pipe, ExitStack() as stack:

        def begin(text: bytes) -> BinaryIO:
            targets.append(scratch / f"{channel.name}{f'-{len(targets)}' if targets else ''}{suffix}")
            file = stack.enter_context(targets[-1].open("wb"))
            file.write(text)
            return file

        header = first = pipe.readline()
        file = begin(first)
        if not has_header or first.startswith((b"{", *PACKED)):
            shutil.copyfileobj(pipe, file)
            return targets
        size, fields = len(first.rstrip()), _fields(first)
        for line in pipe:
            if line.endswith(header) and line != header:
                file.write(line[: -len(header)] + b"\n" + header)
            elif line != header and len(line.rstrip()) == size and _fields(line) == fields:
                header, file = line, begin(line)
            else:
                file.write(line)
    return targets


def _fields(line: bytes) -> list[bytes]:
    return sorted(re.split(rb"[,;|\t]", line.strip()))
