"""Reads the files beside a version's weights: ids, counts and the items' columns.

`ncf/export/id_file.py` describes the layouts and writes them. The files are mapped into memory, whose pages all
processes share. A look-up takes one checksum and about one comparison.
"""

from __future__ import annotations

import mmap
import re
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from zlib import crc32

MAGIC = b"NCFIDS1\n"
HEADER = struct.Struct("<3Q")
# How many looked-up ids and indices a worker keeps in dictionaries, about 2 MB.
REMEMBERED = 16_384
# A whole number as pandas and NumPy write it into CSV when its column has floats: 7.0.
WRITTEN_AS_FLOAT = re.compile(r"^(-?[0-9]+)\.0*$", re.ASCII)


class IdFile:
    """The raw ids of the users or items of one version. An id is looked up by its text, so 7 and "7" are the same, and
    "7.0" where all ids are whole numbers."""

    def __init__(self, path: Path) -> None:
        """Map the file. Raises OSError, or ValueError if it is no id file or is not whole."""
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._bytes[: len(MAGIC)] != MAGIC or len(self._bytes) < len(MAGIC) + HEADER.size:
            raise ValueError(f"{path} is no id file; export the model again")
        self._count, buckets, self._whole_numbers = HEADER.unpack_from(self._bytes, len(MAGIC))
        self._mask = buckets - 1
        view = memoryview(self._bytes)
        position = len(MAGIC) + HEADER.size
        parts = []
        for length, wide in ((self._count + 1, True), (buckets + 1, False), (self._count, False)):
            size = length * (8 if wide else 4)
            if position + size > len(self._bytes):
                raise ValueError(f"{path} is cut short; export the model again")
            part = view[position : position + size]
            parts.append(part.cast("Q") if wide else part.cast("I"))
            position += size
        self._offsets, self._starts, self._entries = parts
        # A few ids are asked for again and again; a dictionary finds them in a tenth of the time.
        self._indices: dict[int | str, int] = {}
        self._raw: dict[int, int | str] = {}
        self._text = position
        if position + self._offsets[self._count] != len(self._bytes):
            raise ValueError(f"{path} is cut short; export the model again")

    def __len__(self) -> int:
        return int(self._count)

    def index(self, raw: int | str) -> int:
        """The index of a raw id, -1 if it is unknown."""
        found = self._indices.get(raw)
        if found is None:
            found = self._look_up(raw)
            if len(self._indices) >= REMEMBERED:
                self._indices.clear()
            if found >= 0:  # there is no limit to the unknown ids that callers may send
                self._indices[raw] = found
        return found

    def indices(self, ids: Sequence[int | str]) -> array[int]:
        """The index of each raw id, -1 for an unknown one."""
        try:
            return array("q", map(self._indices.__getitem__, ids))
        except KeyError:  # some have not been asked for lately
            return array("q", map(self.index, ids))

    def _look_up(self, raw: int | str) -> int:
        text = (WRITTEN_AS_FLOAT.sub(r"\1", raw) if self._whole_numbers and isinstance(raw, str) else str(raw)).encode()
        bucket = crc32(text) & self._mask
        for entry in self._entries[self._starts[bucket] : self._starts[bucket + 1]]:
            start, end = self._offsets[entry], self._offsets[entry + 1]
            if self._bytes[self._text + start : self._text + end] == text:
                return entry
        return -1

    def raw(self, index: int) -> int | str:
        """The raw id of an index, as it was in the data."""
        found = self._raw.get(index)
        if found is None:
            text = self._bytes[self._text + self._offsets[index] : self._text + self._offsets[index + 1]].decode()
            found = int(text) if self._whole_numbers else text
            if len(self._raw) >= REMEMBERED:
                self._raw.clear()
            self._raw[index] = found
        return found


Value = str | int | float | bool | None


class Column:
    """One column of the items' metadata, such as the category: a code for each item, and the value of each code."""

    def __init__(self, folder: Path, number: int, name: str, kind: str, num_items: int) -> None:
        """Map the files. Raises OSError or ValueError if they are not whole."""
        self.name, self.kind = name, kind
        self.values = IdFile(folder / f"column_{number}.ids")
        self._codes = self._map(folder / f"column_{number}", num_items)

    def _map(self, stem: Path, num_items: int) -> memoryview[int]:
        return _numbers(stem.with_suffix(".codes"), "i", num_items)

    def code(self, value: Value) -> int:
        """The code of a value: -1 for null (items without a value), UNKNOWN_CODE if no item has the value."""
        if value is None:
            return -1
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if self.kind in ("number", "integer"):  # 5, 5.0 and "5" are one value
            try:
                number = float(text)
            except ValueError:
                return UNKNOWN_CODE
            if self.kind == "number":
                text = repr(number)
            elif number.is_integer() and abs(number) < 2**53:
                text = str(int(number))
        code = self.values.index(text)
        return UNKNOWN_CODE if code < 0 else code

    def value(self, item_index: int) -> Value | list[Value]:
        """An item's value, as it was in the file; None if it has none."""
        code = self._codes[item_index]
        return None if code < 0 else self._value(code)

    def _value(self, code: int) -> Value:
        text = str(self.values.raw(code))
        if self.kind == "integer":
            return int(text)
        if self.kind == "number":
            return float(text)
        return text == "true" if self.kind == "boolean" else text


class ListColumn(Column):
    """A column in which an item has a list of values, such as tags; `value` is the list, empty for no value."""

    def _map(self, stem: Path, num_items: int) -> memoryview[int]:
        self._starts = _numbers(stem.with_suffix(".starts"), "Q", num_items + 1)
        return _numbers(stem.with_suffix(".many"), "i", self._starts[num_items])

    def value(self, item_index: int) -> Value | list[Value]:
        codes = self._codes[self._starts[item_index] : self._starts[item_index + 1]]
        return [self._value(code) for code in codes]


class BarsColumn(ListColumn):
    """A column of text such as `Comedy|Drama`, whose parts are values, too; `value` is the whole text."""

    def value(self, item_index: int) -> Value:
        first = self._starts[item_index]
        return self._value(self._codes[first]) if first < self._starts[item_index + 1] else None


# By the form that recommender.json gives a column.
FORMS: dict[str, type[Column]] = {"one": Column, "list": ListColumn, "bars": BarsColumn}
UNKNOWN_CODE = -2


def read_counts(path: Path, num_items: int) -> Sequence[int]:
    """The number of interactions of each item [num_items]. Raises OSError, or ValueError if the file is not whole."""
    return _numbers(path, "I", num_items)


def _numbers(path: Path, kind: Literal["i", "I", "Q"], count: int) -> memoryview[int]:
    size, wanted = path.stat().st_size, (8 if kind == "Q" else 4) * count
    if size != wanted:
        raise ValueError(f"{path} has {size:,} bytes instead of {wanted:,}; export the model again")
    if not size:  # an empty file cannot be mapped
        return memoryview(b"").cast(kind)
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).cast(kind)
