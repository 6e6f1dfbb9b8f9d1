from __future__ import annotations

import logging
from pathlib import Path

import polars as pl
import pytest

from ncf.data.interactions import IdIndex
from ncf.data.item_columns import read_items
from ncf.errors import InputError
from ncf.export.id_file import write_column
from serve.recommend.id_files import Column, Value

ITEMS = IdIndex.of(pl.Series(["a", "b", "c"]))


def written(folder: Path, text: str, name: str = "items.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def values(folder: Path, path: Path, items: IdIndex = ITEMS) -> dict[str, list[Value]]:
    """Written by ncf, read by serve."""
    found = {}
    for number, column in enumerate(read_items(path, items)):
        write_column(folder, number, column)
        there = Column(folder, number, column.name, column.kind, len(items))
        found[column.name] = [there.value(index) for index in range(len(items))]
        for index, value in enumerate(found[column.name]):
            assert there.code(value) == column.codes[index]
    return found


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    rows = ["c,Çö “x”,1999,9.50,true,007", "a,,2001,10,false,7", "zz,q,1,1,true,1", "b,b,,,,x"]
    text = "\n".join(["item_id,title,year,price,vegan,code", *rows, ""])
    assert values(tmp_path, written(tmp_path, text)) == {
        "title": [None, "b", "Çö “x”"],
        "year": [2001, None, 1999],
        "price": [10.0, None, 9.5],
        "vegan": [False, None, True],
        "code": ["7", "x", "007"],
    }


def test_parquet_has_types(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "item_id": ["a", "b"],
            "n": [1, None],
            "x": [0.1, float("nan")],
            "b": [True, False],
            "c": pl.Series(["p", "q"], dtype=pl.Categorical),
        }
    )
    frame.write_parquet(tmp_path / "items.parquet")
    assert values(tmp_path, tmp_path / "items.parquet") == {
        "n": [1, None, None],
        "x": [0.1, None, None],
        "b": [True, False, None],
        "c": ["p", "q", None],
    }


def test_ids_of_whole_numbers_meet_their_text(tmp_path: Path) -> None:
    items = IdIndex.of(pl.Series([7, 10]))
    assert values(tmp_path, written(tmp_path, "item_id\tkind\n10\tx\n7\ty\n", "items.tsv"), items) == {
        "kind": ["y", "x"]
    }


def test_what_is_missing_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_items(written(tmp_path, "item_id,t\na,1\n"), ITEMS)
    assert "has no row for 2 of 3 items, such as 'b'" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id\na\n", "has no column beside 'item_id'"),
        ("item,t\na,1\n", "has no column 'item_id'; it has item, t. Name yours with --item-column"),
        ("item_id,t\na,1\na,2\n", "has item 'a' in more than one row"),
        ("item_id,score\na,1\n", "has a column 'score', which is the name of a field in every answer"),
        ("item_id,t\nx,1\n", "has none of the model's 3 items (such as 'a')"),
        ("item_id,t\n", "has a header (item_id, t) but no rows"),
        ("", "is empty"),
        ("item_id,t\n,1\n", "'item_id' is empty or NaN in row 1"),
        ("item_id," + ",".join(f"c{n}" for n in range(33)) + "\n" + "a" + ",1" * 33 + "\n", "has 33 columns beside"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_items(written(tmp_path, text), ITEMS)
    assert message in str(caught.value)


def test_a_list_column_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["a"], "tags": [["x", "y"]]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(InputError, match="column 'tags' is of type List"):
        read_items(tmp_path / "items.parquet", ITEMS)


def test_a_cut_file_is_noticed(tmp_path: Path) -> None:
    (column,) = read_items(written(tmp_path, "item_id,t\na,1\n"), ITEMS)
    write_column(tmp_path, 0, column)
    (tmp_path / "column_0.codes").write_bytes(b"1234")
    with pytest.raises(ValueError, match="has 4 bytes instead of 12; export the model again"):
        Column(tmp_path, 0, "t", "integer", 3)
