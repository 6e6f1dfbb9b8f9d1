"""The folder that `ncf prepare` writes: a split whose arrays are memory-mapped instead of read."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from numpy.lib import format as npy

from ncf.data.interactions import IdIndex
from ncf.errors import InputError

MANIFEST = "prepared.json"
FORMAT = "interactions prepared by ncf"
VERSION = 2

# One file for each array. The rows of `train` are sorted by user, then by item; user u has rows indptr[u]..indptr[u+1].
ARRAYS = (
    "train_indptr",
    "train_user_index",
    "train_item_index",
    "train_weight",  # only if the data have weights
    "held_out_user_index",
    "held_out_item_index",
    "validation_user_index",
    "validation_item_index",
)
BLOCK = 2**20


@dataclass(frozen=True)
class Manifest:
    """The content of prepared.json: `columns` are the names of those that were used, `look` what was read."""

    format: str
    version: int
    num_users: int
    num_items: int
    num_train: int
    num_held_out: int
    num_validation: int
    columns: dict[str, str]
    seed: int
    held_out: int
    min_user_interactions: int
    min_item_interactions: int
    look: list[str]
    sha256: dict[str, str]
    fingerprint: str
    split: str = "leave-one-out"
    test_share: float | None = None

    def make_fingerprint(self) -> str:
        """A digest of the manifest with the sums of all files: folders with equal fingerprints hold the same split."""
        later = {each.name: each.default for each in fields(self) if each.default is not MISSING}
        known = {name: value for name, value in asdict(self).items() if name not in ("look", "fingerprint")}
        # Folders of before lack the fields that have a default, and keep their digest.
        known = {name: value for name, value in known.items() if name not in later or value != later[name]}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """An opened prepared folder: the ids are in memory, the arrays (see ARRAYS) are memory maps."""

    manifest: Manifest
    users: IdIndex
    items: IdIndex
    arrays: dict[str, npt.NDArray[Any]]


class ArrayFile:
    """Context manager: a one-dimensional .npy file that is written in parts."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self.file = path.open("wb")
        self._write_header()

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.file:
            self.file.seek(0)
            self._write_header()

    def append(self, values: npt.NDArray[Any]) -> None:
        self.file.write(np.ascontiguousarray(values, self.dtype).data)
        self.length += len(values)

    def _write_header(self) -> None:
        # NumPy pads the header for a length of up to 21 digits, so the final header is as long as the first one.
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        npy.write_array_header_1_0(self.file, header)  # type: ignore[no-untyped-call]


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Context manager: a folder that is renamed to `output` at the end, and removed after an error.

    Raises InputError if `output` exists, or the folder cannot be written.
    """
    if output.exists() or output.is_symlink():
        raise InputError(f"{output} exists already; choose another --output, or delete it")
    new_parents = [parent for parent in output.parents if not parent.exists()]
    partial = output.parent / f".{output.name}.{secrets.token_hex(4)}"
    try:
        partial.mkdir(parents=True)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, partial, ignore_errors=True)  # nothing is left after the rename
            yield partial
            partial.rename(output)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror or error}; choose another --output") from error
    finally:
        with suppress(OSError):  # a parent that holds the output is not empty, and stays
            for parent in new_parents:
                parent.rmdir()


def write_manifest(folder: Path, **values: Any) -> Manifest:
    """Write prepared.json for the files that are in the folder."""
    sums = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    draft = Manifest(FORMAT, VERSION, **values, sha256=sums, fingerprint="")
    manifest = replace(draft, fingerprint=draft.make_fingerprint())
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
    return manifest


def is_prepared(folder: Path) -> bool:
    return (folder / MANIFEST).exists()


def open_prepared(folder: Path) -> Prepared:
    """Open a folder of `ncf prepare`; every file is checked against its sum. Raises InputError if one differs."""
    manifest = _read_manifest(folder / MANIFEST)
    for name, expected in manifest.sha256.items():
        path = folder / name
        try:
            found = _sha256(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; prepare the data again") from error
        if found != expected:
            raise InputError(f"{path} is not as `ncf prepare` wrote it; prepare the data again")
    # Mapped copy-on-write, because PyTorch warns of read-only arrays; a write would not reach the file.
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in ARRAYS if f"{name}.npy" in manifest.sha256
    }
    users, items = (IdIndex(pl.read_parquet(folder / f"{name}s.parquet")[f"{name}_id"]) for name in ("user", "item"))
    return Prepared(manifest, users, items, arrays)


def _read_manifest(path: Path) -> Manifest:
    try:
        values = json.loads(path.read_bytes())
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']!r}")
        if values["version"] != VERSION:
            raise InputError(
                f"{path.parent} is of version {values['version']} of the format and this is version {VERSION}; "
                "prepare the data again"
            )
        given = [each for each in fields(Manifest) if each.name in values or each.default is MISSING]
        manifest = Manifest(**{each.name: values[each.name] for each in given})
        if manifest.make_fingerprint() != manifest.fingerprint:
            raise ValueError("it was changed")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} is not as `ncf prepare` writes it ({reason}); prepare the data again") from error
    return manifest


def _sha256(path: Path) -> str:
    total, block = hashlib.sha256(), bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:  # read, not mapped: mapped pages would count as memory of this process
        while size := file.readinto(block):
            total.update(memoryview(block)[:size])
    return total.hexdigest()
