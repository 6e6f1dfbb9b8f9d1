from __future__ import annotations

import logging
from pathlib import Path

import polars as pl
import pytest

from ncf.data.interactions import IdIndex
from ncf.data.item_columns import ItemColumn, items_of_values, read_items
from ncf.errors import InputError
from ncf.export.id_file import write_column
from serve.recommend.id_files import FORMS, UNKNOWN_CODE, Column, Value

ITEMS = IdIndex.of(pl.Series(["a", "b", "c"]))


def written(folder: Path, text: str, name: str = "items.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def opened(folder: Path, path: Path, items: IdIndex = ITEMS) -> list[tuple[ItemColumn, Column]]:
    """Written by ncf, read by serve."""
    columns = read_items(path, items)
    for number, column in enumerate(columns):
        write_column(folder, number, column)
    return [
        (column, FORMS[column.form](folder, number, column.name, column.kind, len(items)))
        for number, column in enumerate(columns)
    ]


def values(folder: Path, path: Path, items: IdIndex = ITEMS) -> dict[str, list[Value | list[Value]]]:
    """The values that `serve` shows; where an item has one value, that is the value with the item's code."""
    found = {}
    for column, there in opened(folder, path, items):
        shown = [there.value(index) for index in range(len(items))]
        found[column.name] = shown
        if column.form == "one":
            assert [there.code(value) for value in shown if not isinstance(value, list)] == column.codes.tolist()
    return found


def having(column: ItemColumn, there: Column, value: Value) -> set[str]:
    """The items that the exported query returns for a value."""
    code = there.code(value)
    if code == UNKNOWN_CODE:
        return set()
    if column.form == "one":
        return {ITEMS.ids[index] for index in range(3) if column.codes[index] == code}
    indptr, items = items_of_values(column)
    assert len(indptr) == len(there.values) + 2
    return {ITEMS.ids[int(index)] for index in items[indptr[code + 1] : indptr[code + 2]]}


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
        (
            "item_id,t\nx,1\n",
            "none of the model's 3 items: an id in 'item_id' is 'x', an id of the model 'a'; give the",
        ),
        ("item_id,t\n", "has no rows; it needs a header and rows"),
        ("", "has no rows"),
        ("item_id,t\n,1\n", "'item_id' is empty in row 1"),
        ("item_id," + ",".join(f"c{n}" for n in range(33)) + "\n" + "a" + ",1" * 33 + "\n", "has 33 columns beside"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_items(written(tmp_path, text), ITEMS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "texts", [("True", "False", "True"), ("TRUE", "false", "FALSE"), ("true", "", "False")], ids=",".join
)
def test_true_and_false_are_booleans_however_they_are_written(tmp_path: Path, texts: tuple[str, str, str]) -> None:
    rows = "".join(f"{item},{text}\n" for item, text in zip("abc", texts, strict=True))
    path = written(tmp_path, "item_id,in_stock\n" + rows)
    wanted = [text.lower() == "true" if text else None for text in texts]
    assert values(tmp_path, path) == {"in_stock": wanted}
    ((column, there),) = opened(tmp_path, path)
    assert having(column, there, True) == {item for item, value in zip("abc", wanted, strict=True) if value}
    assert having(column, there, "true") == having(column, there, True)


def test_other_words_make_a_column_text(tmp_path: Path) -> None:
    path = written(tmp_path, "item_id,in_stock\na,True\nb,no\nc,tRUE\n")
    assert values(tmp_path, path) == {"in_stock": ["True", "no", "tRUE"]}


WHOLE = IdIndex.of(pl.Series([7, 10, 2**60]))


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series(["7.0", "10.00", str(2**60)]),
        pl.Series(["7", "10.0", f"{2**60}.0"]),
        pl.Series([7, 10, 2**60], dtype=pl.Decimal(38, 0)),
        pl.Series(["7", "10", str(2**60)]).cast(pl.Decimal(38, 2)),
        pl.Series([b"7", b"10", str(2**60).encode()]),
        pl.Series([7, 10, 2**60], dtype=pl.UInt64),
    ],
    ids=lambda ids: str(ids.dtype),
)
def test_whole_numbers_are_found_however_they_are_written(tmp_path: Path, ids: pl.Series) -> None:
    pl.DataFrame({"item_id": ids, "kind": ["x", "y", "z"]}).write_parquet(tmp_path / "items.parquet")
    assert values(tmp_path, tmp_path / "items.parquet", WHOLE) == {"kind": ["x", "y", "z"]}


def test_floats_with_whole_values_are_whole_numbers(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": [7.0, 10.0], "kind": ["x", "y"]}).write_parquet(tmp_path / "items.parquet")
    assert values(tmp_path, tmp_path / "items.parquet", WHOLE) == {"kind": ["x", "y", None]}


def test_an_id_may_not_be_written_in_two_ways(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has item '7' in more than one row"):
        read_items(written(tmp_path, "item_id,kind\n7,x\n7.0,y\n"), WHOLE)


def test_text_ids_are_compared_as_they_are(tmp_path: Path) -> None:
    items = IdIndex.of(pl.Series(["1.0", "a"]))
    assert values(tmp_path, written(tmp_path, "item_id,kind\n1.0,x\n1,y\n"), items) == {"kind": ["x", None]}


@pytest.mark.parametrize("ids", [pl.Series([7.0, None]), pl.Series([7.0, float("nan")]), pl.Series([b"7", None])])
def test_a_missing_id_is_named_by_its_row(tmp_path: Path, ids: pl.Series) -> None:
    pl.DataFrame({"item_id": ids, "kind": ["x", "y"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(
        InputError, match=r"items.parquet: 'item_id' (is empty|stands for a missing value) in row 2; every"
    ):
        read_items(tmp_path / "items.parquet", WHOLE)


def test_text_with_bars_is_shown_as_it_is_and_found_by_its_parts(tmp_path: Path) -> None:
    path = written(tmp_path, "item_id,genres\nc,Musical\na,Animation | Children's|Musical|Musical\nzz,War|Drama\n")
    assert values(tmp_path, path) == {"genres": ["Animation | Children's|Musical|Musical", None, "Musical"]}
    ((column, there),) = opened(tmp_path, path)
    assert (column.kind, column.form) == ("text", "bars")
    found = {
        value: having(column, there, value)
        for value in ("Musical", "Animation", "Children's", "Animation | Children's|Musical|Musical", "War", "", None)
    }
    assert found == {
        "Musical": {"a", "c"},
        "Animation": {"a"},
        "Children's": {"a"},
        "Animation | Children's|Musical|Musical": {"a"},  # as it was before parts were found
        "War": set(),  # of an item that the model does not have
        "": set(),
        None: {"b"},
    }


def test_text_without_bars_has_one_value(tmp_path: Path) -> None:
    path = written(tmp_path, "item_id,kind\na,Comedy/Drama\nb,Comedy\n")
    ((column, there),) = opened(tmp_path, path)
    assert column.form == "one"
    assert having(column, there, "Comedy") == {"b"}


def test_odd_bars_are_no_values(tmp_path: Path) -> None:
    path = written(tmp_path, "item_id,kind\na,|\nb,|x||\nc,a|x\n")
    ((column, there),) = opened(tmp_path, path)
    assert having(column, there, "x") == {"b", "c"}
    assert having(column, there, "|") == {"a"}
    assert having(column, there, None) == set()


def lists(folder: Path, *rows: object, dtype: pl.DataType | None = None) -> Path:
    """A file in which the items a, b and so on have these lists."""
    tags = pl.Series("tags", rows, dtype=dtype)
    pl.DataFrame({"item_id": list("abc"[: len(rows)]), "tags": tags}).write_parquet(folder / "items.parquet")
    return folder / "items.parquet"


@pytest.mark.parametrize(
    ("rows", "kind", "shown", "value", "items"),
    [
        ([["y", "x", "y"], ["x|z", "", None]], "text", [["y", "x"], ["x|z"], []], "x", {"a"}),
        ([[3, 1], None, []], "integer", [[3, 1], [], []], 1, {"a"}),
        ([[0.5], [0.5, 2.0], [None]], "number", [[0.5], [0.5, 2.0], []], 2, {"b"}),
        ([[True, False], [False]], "boolean", [[True, False], [False], []], False, {"a", "b"}),
        ([[b"x"], [b"y", b"x"]], "text", [["x"], ["y", "x"], []], "x", {"a", "b"}),
        ([[], []], "text", [[], [], []], None, {"a", "b", "c"}),
    ],
)
def test_lists_are_shown_as_lists_and_found_by_each_value(
    tmp_path: Path, rows: list[object], kind: str, shown: list[object], value: Value, items: set[str]
) -> None:
    path = lists(tmp_path, *rows)
    assert values(tmp_path, path) == {"tags": shown}
    ((column, there),) = opened(tmp_path, path)
    assert (column.kind, column.form) == (kind, "list")
    assert having(column, there, value) == items
    assert having(column, there, None) == {item for item, of in zip("abc", shown, strict=True) if not of}


def test_arrays_and_categories_are_lists_of_text(tmp_path: Path) -> None:
    for dtype in (pl.Array(pl.String, 2), pl.List(pl.Categorical)):
        assert values(tmp_path, lists(tmp_path, ["x", "y"], ["y", "z"], dtype=dtype)) == {
            "tags": [["x", "y"], ["y", "z"], []]
        }


def test_a_list_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    for row, message in (
        ([["x"]], "column 'tags' is of type List"),
        (list(range(101)), "column 'tags' has 101 values in row 2; an item may have 100 in a column"),
        ([b"\xff"], "column 'tags' holds bytes that are not UTF-8"),
    ):
        with pytest.raises(InputError, match=message):
            read_items(lists(tmp_path, [], row), ITEMS)


def test_cut_lists_are_noticed(tmp_path: Path) -> None:
    ((_, _),) = opened(tmp_path, lists(tmp_path, ["x", "y"]))
    for name in ("column_0.many", "column_0.starts"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-4])
        with pytest.raises(ValueError, match=f"{name} has .* export the model again"):
            FORMS["list"](tmp_path, 0, "tags", "text", 3)
        (tmp_path / name).write_bytes(whole)


def test_a_cut_file_is_noticed(tmp_path: Path) -> None:
    (column,) = read_items(written(tmp_path, "item_id,t\na,1\n"), ITEMS)
    write_column(tmp_path, 0, column)
    (tmp_path / "column_0.codes").write_bytes(b"1234")
    with pytest.raises(ValueError, match="has 4 bytes instead of 12; export the model again"):
        Column(tmp_path, 0, "t", "integer", 3)
