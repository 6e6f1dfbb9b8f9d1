"""Write the files that `serve` maps: raw ids to indices and back, and the metadata of items.

Layout of an `.ids` file, little-endian; it is a single file, so that the ids of a version are complete or absent:

    magic     8 bytes  b"NCFIDS1\\n"
    header    3 uint64 number of ids n, number of buckets m (a power of two), 1 if the ids are whole numbers else 0
    offsets   uint64 [n + 1]   id i is bytes offsets[i]:offsets[i + 1] of the text
    starts    uint32 [m + 1]   bucket b holds entries starts[b]:starts[b + 1]
    entries   uint32 [n]       indices, by bucket; the bucket of an id is crc32(its UTF-8) modulo m
    text      UTF-8 of all ids, one after another

A reader maps the file: opening it reads nothing, all processes share its pages, and a look-up takes one checksum and
about one comparison for any n.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import polars as pl

from ncf.data.interactions import IdIndex, IntArray
from ncf.data.item_columns import ItemColumn

MAGIC = b"NCFIDS1\n"


def write_id_file(path: Path, index: IdIndex) -> None:
    """Write the ids of an index, in index order."""
    texts = [raw.encode() for raw in index.ids.cast(pl.String)]
    offsets = np.zeros(len(texts) + 1, "<u8")
    offsets[1:] = np.cumsum([len(text) for text in texts])
    num_buckets = 1 << max(1, len(texts)).bit_length()
    buckets = np.fromiter((crc32(text) & (num_buckets - 1) for text in texts), np.int64, len(texts))
    starts = np.zeros(num_buckets + 1, "<u4")
    starts[1:] = np.bincount(buckets, minlength=num_buckets).cumsum()
    entries = np.argsort(buckets, kind="stable").astype("<u4")
    whole_numbers = int(index.ids.dtype == pl.Int64)
    with path.open("wb") as file:
        file.write(MAGIC + struct.pack("<3Q", len(texts), num_buckets, whole_numbers))
        for array in (offsets, starts, entries):
            file.write(array.tobytes())
        file.write(b"".join(texts))


def write_column(folder: Path, number: int, column: ItemColumn) -> None:
    """Write a column of metadata: its values as an id file, and the codes of the items' values as int32.

    With one value an item these are `.codes` [num_items], -1 for no value. With several they are `.many` [N], and
    `.starts`, uint64 [num_items + 1]: the values of item i are many[starts[i]:starts[i + 1]]. The names differ, so that
    a `serve` that knows only the first form refuses the version instead of reading it wrongly.
    """
    write_id_file(folder / f"column_{number}.ids", column.values)
    codes = column.codes.astype("<i4").tobytes()
    if column.starts is None:
        (folder / f"column_{number}.codes").write_bytes(codes)
    else:
        (folder / f"column_{number}.many").write_bytes(codes)
        (folder / f"column_{number}.starts").write_bytes(column.starts.astype("<u8").tobytes())


def describe_columns(columns: Sequence[ItemColumn]) -> list[dict[str, str]]:
    """The columns as recommender.json lists them, in the order of their numbers."""
    return [{"name": column.name, "kind": column.kind, "form": column.form} for column in columns]


def write_counts(path: Path, counts: IntArray) -> None:
    """Write the interactions of each item, uint32 [num_items]: `serve` ranks items for unknown users by it."""
    path.write_bytes(counts.astype("<u4").tobytes())
