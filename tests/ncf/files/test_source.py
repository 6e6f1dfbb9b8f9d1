from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

import polars as pl
import pytest

from ncf.data.load import load_split
from ncf.errors import InputError
from ncf.files.reading import Columns
from tests.ncf.data.read import read

pytestmark = pytest.mark.core

ROWS = "user_id,item_id,weight,timestamp\nbob,x,1,30\namy,y,2.5,10\namy,x,1,20\n"


def write(folder: Path, text: str, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_csv_tsv_and_parquet_give_the_same_interactions(tmp_path: Path) -> None:
    csv = write(tmp_path, ROWS)
    tsv = write(tmp_path, ROWS.replace(",", "\t"), "data.tsv")
    parquet = tmp_path / "data.parquet"
    pl.read_csv(csv).write_parquet(parquet)
    for path in (csv, tsv, parquet):
        data = read(path)
        assert data.users.ids.to_list() == ["amy", "bob"]
        assert data.items.ids.to_list() == ["x", "y"]
        assert data.timestamp is not None
        assert data.weight is not None
        assert list(zip(data.user_index, data.item_index, data.weight, data.timestamp, strict=True)) == [
            (0, 1, 2.5, 10),
            (0, 0, 1.0, 20),
            (1, 0, 1.0, 30),
        ]


def test_columns_are_named_by_option(tmp_path: Path) -> None:
    path = write(tmp_path, "customer,sku\na,1\nb,2\n")
    data = read(path, columns=Columns(user_id="customer", item_id="sku"))
    assert data.users.ids.to_list() == ["a", "b"]
    assert data.items.ids.to_list() == [1, 2]
    assert data.weight is None
    assert data.timestamp is None


def test_whole_numbers_stay_numbers_and_sort_as_such_but_007_is_a_name(tmp_path: Path) -> None:
    data = read(write(tmp_path, "user_id,item_id\n10,007\n9,7\n"))
    assert data.users.ids.to_list() == [9, 10]
    assert data.items.ids.to_list() == ["007", "7"]


def test_awkward_ids_survive(tmp_path: Path) -> None:
    names = ["a b", "c,d", "é—☃", "x" * 300, " lead", "tail ", '"q"', "null"]
    path = tmp_path / "data.csv"
    pl.DataFrame({"user_id": names, "item_id": names[::-1]}).write_csv(path)
    assert sorted(read(path).users.ids.to_list()) == sorted(names)


def test_dates_are_timestamps(tmp_path: Path) -> None:
    data = read(write(tmp_path, "user_id,item_id,timestamp\na,x,2024-05-02\nb,y,2023-05-02\n"))
    assert data.timestamp is not None
    assert list(data.user_index) == [1, 0]  # sorted by time


def test_dates_of_every_usual_form_are_put_in_order(tmp_path: Path) -> None:
    dates = [
        "2024-05-02", "2024-05-02 00:01", "2024-05-02T00:01:01", "2024-05-02 00:01:01.25", "2024-05-02T00:02Z",
        "2024-05-02T02:02:30+02:00", "2024-05-02 00:02:31.5Z", "2024-05-02T00:02:40", "2024-05-01T23:03:00.000-0100",
    ]  # fmt: skip
    rows = [f"u{place},i{place},{date}\n" for place, date in enumerate(dates)]
    data = read(write(tmp_path, "user_id,item_id,timestamp\n" + "".join(reversed(rows))))
    assert data.user_index.tolist() == [*range(len(dates))]
    assert data.timestamp is not None
    assert data.timestamp[1] - data.timestamp[0] == 60_000_000


def test_of_a_repeated_pair_the_latest_stays_and_it_is_said(tmp_path: Path) -> None:
    text = "user_id,item_id,weight,timestamp\na,x,5,30\na,x,1,10\nb,y,1,5\na,x,2,20\n"
    data = read(write(tmp_path, text))
    assert len(data) == 2
    assert data.weight is not None
    assert data.weight.tolist() == [1.0, 5.0]
    text = text.replace("b,y,1,5", "b,y,1,5\na,y,1,4\nb,z,1,3")
    assert "2 repeated pairs of user and item (the latest of each is kept)" in load_split(write(tmp_path, text)).look[3]


def test_a_user_who_has_every_item_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_split(write(tmp_path, "user_id,item_id\nall,x\nall,y\nb,y\n"))
    assert "user 'all' has every item" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("user_id,item_id\n", "has no rows"),
        ("who,item_id\na,x\n", "no column 'user_id'; it has who, item_id. Name yours with --user-column"),
        ("user_id,item_id,weight\na,x,1\nb,y,much\n", "line 3: 'weight' is 'much', which is not a number above 0"),
        ("user_id,item_id,weight\na,x,NaN\nb,y,1\n", "line 2: 'weight' is 'NaN'"),
        ("user_id,item_id,weight\na,x,0\nb,y,1\n", "line 2: 'weight' is '0'"),
        ("user_id,item_id,weight\na,x,inf\nb,y,1\n", "line 2: 'weight' is 'inf'"),
        ("user_id,item_id,timestamp\na,x,1\nb,y,soon\n", "line 3: 'timestamp' is 'soon'"),
        ("user_id,item_id,timestamp\na,x,2024-01-01\nb,y,soon\n", "line 3: 'timestamp' is 'soon'"),
        ("user_id,item_id,timestamp\na,x,2024-01-01\nb,y,2024-13-01\n", "line 3: 'timestamp' is '2024-13-01'"),
        ("user_id,item_id\na,x\n,y\n", "line 3: 'user_id' is empty; every row needs an id"),
        ("user_id,item_id\na,x\nb,\n", "line 3: 'item_id' is empty"),
        ("user_id,item_id\na,x\na,y\n", "one user only ('a')"),
        ("user_id,item_id\na,x\nb,x\n", "one item only ('x')"),
        ("user_id,item_id\na,x\nb,x\na,y\nb,y\n", "every user has every item (2 × 2)"),
        ("user_id,item_id\na,x,3,4\nb,y\n", "line 2 has more fields than the header has names (2), separated by comma"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_split(write(tmp_path, text))
    assert message in str(caught.value)


def test_a_bad_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"s3://bucket/data\.csv is an address"):
        read(Path("s3://bucket/data.csv"))
    with pytest.raises(InputError, match="cannot be read"):
        read(write(tmp_path, "PAR1 no parquet at all", "data.parquet"))


def test_parquet_ids_that_are_floats(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pl.DataFrame({"user_id": [1.0, 2.0], "item_id": ["x", "y"]}).write_parquet(path)
    assert read(path).users.ids.to_list() == [1, 2]
    pl.DataFrame({"user_id": [1.0, float("nan")], "item_id": ["x", "y"]}).write_parquet(path)
    with pytest.raises(InputError, match="row 2: 'user_id' stands for a missing value"):
        read(path)
    pl.DataFrame({"user_id": [1.0, 2.5], "item_id": ["x", "y"]}).write_parquet(path)
    with pytest.raises(InputError, match=r"'user_id' has 2.5; ids are text or whole numbers"):
        read(path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [[1], [2]], "'user_id' is of type List"),
        ("user_id", [b"\xff", b"a"], "cannot be read: invalid utf8"),
        ("user_id", [1.0, float("inf")], "'user_id' has inf; ids are text or whole numbers"),
        ("user_id", [1.0, 1e30], "'user_id' is float64 and has 1e+30"),
        ("weight", [[1], [2]], "'weight' is of type List"),
        ("weight", [1.0, 1e300], "row 2: 'weight' is '1e+300'"),
        ("weight", [1.0, 1e-60], "row 2: 'weight' is '1e-60'"),
        ("timestamp", [dt.time(1), dt.time(2)], "the timestamp column is of type Time"),
        ("timestamp", [1.0, float("nan")], "row 2: 'timestamp' is 'nan'"),
        ("timestamp", ["01/02/2024", "02/02/2024"], "row 1: 'timestamp' is '01/02/2024'"),
    ],
)
def test_a_column_of_an_odd_type_is_refused(tmp_path: Path, column: str, values: list[object], message: str) -> None:
    path = tmp_path / "data.parquet"
    pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], column: values}).write_parquet(path)
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value)


def test_categories_and_unsigned_numbers_are_ids(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pl.DataFrame(
        {"user_id": pl.Series(["b", "a"], dtype=pl.Categorical), "item_id": pl.Series([2, 1], dtype=pl.UInt64)}
    ).write_parquet(path)
    data = read(path)
    assert (data.users.ids.to_list(), data.items.ids.to_list()) == (["a", "b"], [1, 2])


def test_a_file_from_windows(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"\xef\xbb\xbfuser_id,item_id\r\na,x\r\nb,y\r\n")
    assert read(path).items.ids.to_list() == ["x", "y"]
