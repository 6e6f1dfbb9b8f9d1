from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from ncf.errors import InputError
from ncf.files.find import find_files
from ncf.files.open import open_table
from ncf.files.reading import Columns, Reading
from ncf.files.table import Table, readable

FRAME = pl.DataFrame({"user_id": [1, 2], "item_id": ["x", "y"]})


def opened(path: Path, **reading: object) -> Table | None:
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    (found,) = find_files([path], scratch)
    return open_table(found, scratch, Columns(), Reading(**reading))  # type: ignore[arg-type]


def test_parquet_and_arrow_keep_their_types(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "x.csv")
    FRAME.write_ipc(tmp_path / "x.feather")
    (tmp_path / "x.parquet.gz").write_bytes(gzip.compress((tmp_path / "x.csv").read_bytes()))
    for name in ("x.csv", "x.feather", "x.parquet.gz"):
        table = opened(tmp_path / name)
        assert table is not None
        assert table.frame.collect().equals(FRAME)
        assert table.place(1) == "row 2"


def test_nothing_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "empty.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "header.csv").write_bytes(b"user_id,item_id\n")
    FRAME.clear().write_parquet(tmp_path / "none.parquet")
    for path in sorted(tmp_path.glob("*.*")):
        assert opened(path) is None


@pytest.mark.parametrize(
    ("reading", "options"),
    [
        ({"separator": ";"}, "--separator"),
        ({"no_header": True, "names": "a,b"}, "--no-header and --columns"),
        ({"encoding": "latin-1"}, "--encoding"),
    ],
)
def test_options_of_text_are_refused_for_other_files(tmp_path: Path, reading: dict[str, object], options: str) -> None:
    FRAME.write_parquet(tmp_path / "x.parquet")
    with pytest.raises(
        InputError, match=f"x.parquet is Parquet, which says itself how it is written; leave out {options}"
    ):
        opened(tmp_path / "x.parquet", **reading)
    (tmp_path / "x.jsonl").write_text('{"user_id": 1}\n')
    if "encoding" in reading:
        assert opened(tmp_path / "x.jsonl", **reading)
    else:
        with pytest.raises(InputError, match=f"x.jsonl is JSON Lines, .*; leave out {options}"):
            opened(tmp_path / "x.jsonl", **reading)


def test_a_broken_parquet_file_is_named_without_the_place_where_it_was_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.parquet.gz").write_bytes(gzip.compress(b"PAR1 no parquet at all PAR1"))
    with pytest.raises(InputError) as caught:
        opened(tmp_path / "x.parquet.gz")
    assert str(caught.value).startswith(f"{tmp_path / 'x.parquet.gz'} cannot be read: ")
    assert "scratch" not in str(caught.value)


def test_names_of_folders_are_columns(tmp_path: Path) -> None:
    path = tmp_path / "clicks" / "dt=2024-01-01" / "part-0.parquet"
    path.parent.mkdir(parents=True)
    FRAME.write_parquet(path)
    (found,) = find_files([tmp_path / "clicks"], tmp_path)
    table = open_table(found, tmp_path, Columns(), Reading())
    assert table is not None
    assert table.frame.collect()["dt"].to_list() == ["2024-01-01", "2024-01-01"]
    FRAME.with_columns(dt=1).write_parquet(path)
    with pytest.raises(InputError, match=r"has a column 'dt', and its folder names one as well; rename one"):
        open_table(found, tmp_path, Columns(), Reading())


def test_decimals_and_bytes_are_opened(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [Decimal("1.00")], "item_id": [b"x"]}).write_parquet(tmp_path / "x.parquet")
    assert opened(tmp_path / "x.parquet") is not None


def test_a_panic_of_polars_is_an_error_of_the_file() -> None:
    with pytest.raises(InputError, match="x cannot be read, for it is damaged: range end"), readable("x"):
        raise pl.exceptions.PanicException("range end index 1\nmore")
