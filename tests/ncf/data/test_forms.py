"""Every form of a file gives the same interactions, and only the columns that are used are read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard

from ncf.data.load import load_split
from ncf.data.splits import SplitOptions
from ncf.files.reading import Columns, Reading
from ncf.files.rows import used_rows
from ncf.files.source import open_source
from tests.ncf.data.read import NAMES, ROWS, put, read, text_of


def packed(kind: str, text: bytes) -> bytes:
    if kind == "zip":
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("inside.csv", text)
        return target.getvalue()
    pack: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstandard.compress}
    return pack[kind](text)


def frame_as(kind: str) -> bytes:
    frame, target = pl.DataFrame(ROWS, NAMES, orient="row"), io.BytesIO()
    if kind == "parquet":
        frame.write_parquet(target)
    else:
        frame.write_ipc(target)
    return target.getvalue()


LINES = "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in ROWS)
FORMS: dict[str, str | bytes] = {
    "x.csv": text_of(ROWS), "x.tsv": text_of(ROWS, "\t"), "x.txt": text_of(ROWS, " "), "x.dat": text_of(ROWS, "::"),
    "x.data": text_of(ROWS, "|"), "semicolons.csv": text_of(ROWS, ";"), "commas.tsv": text_of(ROWS),
    "x.inter": text_of(ROWS, "\t", ["user_id:token", "item_id:token", "weight:float", "timestamp:float"]),
    "sep.csv": "sep=;\n" + text_of(ROWS, ";"), "comment.csv": "# made by hand\n" + text_of(ROWS),
    "movielens.csv": text_of(ROWS, names=["userId", "movieId", "weight", "timestamp"]),
    "utf-16.csv": text_of(ROWS).encode("utf-16"), "windows.csv": "\ufeff" + text_of(ROWS).replace("\n", "\r\n"),
    "mac.csv": text_of(ROWS).replace("\n", "\r"),
    "quoted.csv": text_of([tuple(f'"{value}"' for value in row) for row in ROWS]),
    "floats.csv": text_of([(f"{row[0]}.0", *row[1:]) for row in ROWS]), "x.jsonl": LINES, "x.ndjson": LINES,
    "x.json.gz": gzip.compress(LINES.encode()), "x.parquet": frame_as("parquet"), "x.pq": frame_as("parquet"),
    "x.arrow": frame_as("arrow"), "x.feather": frame_as("arrow"), "parquet.csv": frame_as("parquet"),
    **{f"x.csv.{kind}": packed(kind, text_of(ROWS).encode()) for kind in ("gz", "bz2", "zst", "zip")},
    "gz.csv": packed("gz", text_of(ROWS).encode()), "twice.csv": packed("gz", packed("bz2", text_of(ROWS).encode())),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_same_table(tmp_path: Path, name: str) -> None:
    wanted = read(*put(tmp_path, {"plain.csv": text_of(ROWS)}))
    put(tmp_path / "folder", {name: FORMS[name]})
    for path in (tmp_path / "folder" / name, tmp_path / "folder"):
        found = read(path)
        assert found.users.ids.equals(wanted.users.ids)
        assert found.items.ids.equals(wanted.items.ids)
        for field in ("user_index", "item_index", "weight", "timestamp"):
            assert np.array_equal(getattr(found, field), getattr(wanted, field))


def test_nested_names_are_joined_by_dots(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"who": {"id": user}, "what": [], "asin": item}) + "\n" for user, item, *_ in ROWS)
    (path,) = put(tmp_path, {"x.jsonl": lines})
    assert len(read(path, columns=Columns(user_id="who.id"))) == len(ROWS)


def test_folders_named_by_day_give_the_time(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        path = tmp_path / "clicks" / f"dt=2024-01-0{4 - day}" / "part-0.parquet"
        path.parent.mkdir(parents=True)
        pl.DataFrame({"user_id": [1, 2], "item_id": [day, day + 10]}).write_parquet(path)
    split = load_split(tmp_path / "clicks", SplitOptions(Columns(timestamp="dt")))
    assert set(split.train.items.decode(split.held_out.item_index)) == {1, 11}
    assert split.look[4] == "held out: each user's latest item by dt, 2024-01-03 to 2024-01-03"


def test_only_the_columns_that_are_used_are_read(tmp_path: Path) -> None:
    wide = pl.DataFrame(ROWS, NAMES, orient="row").with_columns(
        *(pl.lit("long text").alias(f"c{n}") for n in range(50))
    )
    wide.write_parquet(tmp_path / "x.parquet")
    wide.write_csv(tmp_path / "x.csv")
    for name in ("x.parquet", "x.csv"):
        with tempfile.TemporaryDirectory() as scratch:
            source = open_source([tmp_path / name], Columns(), Reading(), Path(scratch))
            assert (
                "PROJECT 4/54 COLUMNS"
                in used_rows(source.tables[0], source.roles, source.reading, source.times).explain()
            )
    broken = pl.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [1, 2, 3, 1], "bytes": [b"\xff"] * 4, "list": [[1]] * 4})
    broken.write_parquet(tmp_path / "broken.parquet")
    assert (
        load_split(tmp_path / "broken.parquet").look[2]
        == "columns: user_id (users), item_id (items); not used: bytes, list"
    )
