"""Reads the `.ids` file of a model version: raw ids to indices and back, straight from the mapped file.

The layout is described in the writer, `ncf/id_file.py`. A look-up is one checksum and about one comparison; the pages
are shared by all processes.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from zlib import crc32

MAGIC = b"NCFIDS1\n"
HEADER = struct.Struct("<3Q")


class IdFile:
    """Raw ids of one model version; an id is looked up by its text, so 7 and "7" are the same."""

    def __init__(self, path: Path) -> None:
        """Map the file. Raises ValueError if it is no id file or shorter than it says."""
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
        self._text = position
        if position + self._offsets[self._count] != len(self._bytes):
            raise ValueError(f"{path} is cut short; export the model again")

    def __len__(self) -> int:
        return int(self._count)

    def index(self, raw: int | str) -> int:
        """The index of a raw id, -1 if it is not here."""
        text = str(raw).encode()
        bucket = crc32(text) & self._mask
        for entry in self._entries[self._starts[bucket] : self._starts[bucket + 1]]:
            start, end = self._offsets[entry], self._offsets[entry + 1]
            if self._bytes[self._text + start : self._text + end] == text:
                return entry
        return -1

    def raw(self, index: int) -> int | str:
        """The raw id of an index, as it was in the data."""
        text = self._bytes[self._text + self._offsets[index] : self._text + self._offsets[index + 1]].decode()
        return int(text) if self._whole_numbers else text
