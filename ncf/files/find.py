"""The files that were asked for: files, the files in folders, and standard input or a pipe copied into a file."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from ncf.errors import InputError

TABLES = (".csv", ".tsv", ".inter", ".parquet", ".pq", ".arrow", ".feather", ".ipc", ".jsonl", ".ndjson", ".json")
LOOSE = (".txt", ".dat", ".data")  # in a folder only if there is no other table: a README often ends so
PACKED = (".gz", ".zst", ".bz2", ".zip")


def new_file(scratch: Path, suffix: str) -> Path:
    """A path in the scratch folder that no file has yet."""
    return scratch / f"{len(list(scratch.iterdir()))}{suffix}"


@dataclass(frozen=True)
class Found:
    """One file; `shown` is its name in messages. `keys` are the columns that folder names such as `day=1` give."""

    path: Path
    shown: str
    keys: dict[str, str | None] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """The ending of the name without that of a compression, in small letters."""
        name = self.shown.lower()
        for packed in PACKED:
            name = name.removesuffix(packed)
        return Path(name).suffix


def tables_among(paths: Sequence[Path]) -> list[Path]:
    """The files whose names say that they hold a table."""
    suffixes = [Found(path, path.name).suffix for path in paths]
    tables = [path for path, suffix in zip(paths, suffixes, strict=True) if suffix in TABLES]
    packed = [path for path, suffix in zip(paths, suffixes, strict=True) if not suffix and is_packed(path)]
    loose = [path for path, suffix in zip(paths, suffixes, strict=True) if suffix in LOOSE]
    return tables + packed if tables or packed else loose


def is_packed(path: Path) -> bool:
    return path.suffix.lower() in PACKED


def find_files(data: Sequence[Path], scratch: Path, option: str = "--data") -> list[Found]:
    """The given files, and the files in the given folders in order of name; `-` is standard input.

    What can be read only once is copied into `scratch`. Raises InputError.
    """
    found: list[Found] = []
    for path in data:
        text = str(path)
        if text == "-":
            found.append(_copied(sys.stdin.buffer.fileno(), scratch, len(found), "standard input"))
        elif ":/" in text and not path.exists():
            raise InputError(
                f"{text.replace(':/', '://')} is an address, and {option} takes files; copy it first, or give it to a "
                "training job as a channel"
            )
        elif path.is_dir():
            found += _inside(path)
        elif path.is_file():
            found.append(Found(path, text))
        elif path.exists():  # a pipe, such as <(zcat clicks.csv.gz)
            with path.open("rb", buffering=0) as pipe:
                found.append(_copied(pipe.fileno(), scratch, len(found), text))
        else:
            raise InputError(f"{path} does not exist; {option} takes files, folders of files, and - for standard input")
    places = [each.path.resolve() for each in found]
    if twice := [each for number, each in enumerate(found) if places[number] in places[:number]]:
        raise InputError(f"{twice[0].shown} is given twice; name each file once")
    return found


def _inside(folder: Path) -> list[Found]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    visible = [path for path in files if not hidden(path.relative_to(folder))]
    if not (tables := tables_among(visible)):
        raise InputError(f"{folder} holds no file that ends in {', '.join((*TABLES, *LOOSE))}, compressed or not")
    found = []
    for path in tables:
        keys = [part.split("=", 1) for part in path.relative_to(folder).parts[:-1] if "=" in part]
        found.append(Found(path, str(path), {unquote(key): _value(value) for key, value in keys}))
    return found


def _value(written: str) -> str | None:
    """What a folder's name says: Hive and Spark write `:` as %3A, and have a word for a missing value."""
    return None if written == "__HIVE_DEFAULT_PARTITION__" else unquote(written)


def hidden(path: Path) -> bool:
    """Whether a file is not one of the data, such as Spark's _SUCCESS."""
    return any(part.startswith((".", "_")) for part in path.parts)


def _copied(pipe: int, scratch: Path, number: int, shown: str) -> Found:
    target = scratch / f"{number}.pipe"
    with os.fdopen(os.dup(pipe), "rb") as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 2**20)
    return Found(target, shown)
