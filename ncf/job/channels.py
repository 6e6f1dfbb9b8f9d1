"""The input channels of a training job: folders of files, or pipes, which can be read only once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ncf.data.tables import SUFFIXES
from ncf.errors import InputError
from ncf.job.contract import read_object

log = logging.getLogger(__name__)

ROLES = {
    "train": ("train", "training"),
    "test": ("test",),
    "items": ("items",),
}  # the SDK calls its only channel training
MODES = ("File", "FastFile", "Pipe")
# The file ending of each content type, for pipes and for files without one of our endings.
CONTENT_SUFFIXES = {
    "text/csv": ".csv",
    "application/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/tsv": ".tsv",
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

    SM_CHANNEL_TRAIN, SM_CHANNEL_TEST and SM_CHANNEL_ITEMS name other folders. Raises InputError for an invalid channel,
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


def files_in(channel: Channel, scratch: Path) -> list[Path]:
    """The files of a channel in the order of their names, without hidden ones; a pipe is read into one file.

    Raises InputError if there is no file.
    """
    if channel.mode == "Pipe":
        return [_spool(channel, scratch)]
    path = channel.path
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"channel '{channel.name}' is not there: {path} does not exist")
    inside = sorted(path.rglob("*"))
    files = [file for file in inside if file.is_file() and not _hidden(file.relative_to(path))]
    if not files:
        raise InputError(f"channel '{channel.name}' is empty: {path} holds no file")
    return files


def tables_in(channel: Channel, files: list[Path], scratch: Path) -> list[Path]:
    """The tables among the files of a channel. Raises InputError if there is none, or several kinds of them."""
    tables = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not tables and (suffix := channel.suffix):  # keys in S3 may have no ending: then the content type counts
        folder = scratch / f"{channel.name} by content type"
        folder.mkdir()
        tables = [folder / f"{number:06} {file.name}{suffix}" for number, file in enumerate(files)]
        for link, file in zip(tables, files, strict=True):
            link.symlink_to(file.absolute())
    if not tables:
        raise InputError(
            f"channel '{channel.name}' ({channel.path}) holds no file that ends in {', '.join(SUFFIXES)} "
            f"(found: {_some(files)}); name files so, or give the channel a content type, such as text/csv"
        )
    if len({table.suffix.lower() for table in tables}) > 1:
        raise InputError(f"channel '{channel.name}' holds tables of several kinds ({_some(tables)}); keep one kind")
    return tables


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)  # such as Spark's _SUCCESS


def _some(files: list[Path]) -> str:
    return ", ".join([file.name for file in files[:5]] + ["…"] * (len(files) > 5))


def _spool(channel: Channel, scratch: Path) -> Path:
    """Read a pipe into a file. SageMaker joins several objects in S3; the headers of all but the first are left out."""
    suffix = channel.suffix or ".csv"
    if suffix == ".parquet":
        raise InputError(
            f"channel '{channel.name}' is a pipe of Parquet, which cannot be read from front to back; choose FastFile"
        )
    if not channel.path.exists():
        raise InputError(f"channel '{channel.name}' is not there: {channel.path}, its pipe, does not exist")
    target = scratch / f"{channel.name}{suffix}"
    with channel.path.open("rb") as pipe, target.open("wb") as file:
        header = pipe.readline()
        file.write(header)
        for line in pipe:
            if not line.endswith(header):
                file.write(line)
            elif line != header:  # the previous object did not end with a line break
                file.write(line[: -len(header)] + b"\n")
    return target
