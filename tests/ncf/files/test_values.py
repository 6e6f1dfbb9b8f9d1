from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ncf.data.load import load_split
from ncf.data.splits import SplitOptions
from ncf.errors import InputError
from ncf.files.reading import Columns, Reading
from ncf.files.values import find_ids
from tests.ncf.data.read import read

HEADER = "user_id,item_id,timestamp\n"


def write(folder: Path, text: str, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def ids(*values: str | None) -> tuple[list[object], list[str | None], int]:
    """The ids among values, the missing values, and how many words for a missing value are names."""
    frame = pl.DataFrame({"value": values}, {"value": pl.String}).with_row_index("row")
    found = find_ids(frame.with_columns(count=pl.lit(1), part=pl.lit(0)))
    return found.ids.to_list(), found.missing["value"].to_list(), found.words


def test_whole_numbers_are_numbers_however_they_are_written() -> None:
    assert ids("1", "1.0", " 1", "2.000", "-3", "0") == ([-3, 0, 1, 2], [], 0)


@pytest.mark.parametrize("odd", ["x", "007", "1.5", "1e5", "+5", "9" * 19, "-0", "1."])
def test_one_value_that_is_none_makes_all_text_and_nothing_is_merged(odd: str) -> None:
    found, missing, _ = ids("1", "1.0", odd)
    assert (found, missing) == (sorted(["1", "1.0", odd]), [])


WORDS = ["nan", "NaN", "NA", "N/A", "<NA>", "#N/A", "NULL", "null", "None", "NaT", "\\N", "undefined", "nil"]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_missing_is_missing_among_numbers_and_a_name_among_text(word: str) -> None:
    assert ids("1", word, "2.0") == ([1, 2], [word], 0)
    assert ids("ann", word) == (sorted(["ann", word]), [], 1)
    assert ids("Nan", "None") == (["Nan", "None"], [], 2)


def test_empty_values_are_missing_and_long_ones_are_refused() -> None:
    assert ids("", "  ", None, "a") == (["a"], ["", "  ", None], 0)
    assert ids("a", "x" * 1024, "y" * 1025) == (["a", "x" * 1024], ["y" * 1025], 0)


def test_pandas_writes_one_id_in_two_ways(tmp_path: Path) -> None:
    one = write(tmp_path, "user_id,item_id\n1,10\n1,11\n1,12\n2,10\n2,11\n", "one.csv")
    two = write(tmp_path, "user_id,item_id\n1.0,13\n1.0,14\n2.0,13\n2.0,10\n", "two.csv")
    data = read(one, two)
    assert data.users.ids.to_list() == [1, 2]
    assert len(data) == 8
    pl.DataFrame({"user_id": [1.0, 3.0], "item_id": [10, 15]}).write_parquet(tmp_path / "three.parquet")
    assert read(one, two, tmp_path / "three.parquet").users.ids.to_list() == [1, 2, 3]
    assert read(one, two).users.encode(pl.Series(["1", "2", "1.0"])).tolist() == [0, 1, -1]
    assert read(one, two).users.encode(pl.Series([1, 2, 7])).tolist() == [0, 1, -1]
    named = write(tmp_path, "user_id,item_id\nbob,13\n1.0,14\n", "named.csv")
    assert read(one, named).users.ids.to_list() == ["1", "1.0", "2", "bob"]


def test_numbers_may_have_spaces_around_them(tmp_path: Path) -> None:
    data = read(
        write(tmp_path, "user_id, item_id, weight, timestamp\n1, 10, 4.5, 1600000000\n2, 11 , 5 ,1600000001 \n")
    )
    assert data.items.ids.to_list() == [10, 11]
    assert data.weight is not None
    assert data.weight.tolist() == [4.5, 5]
    assert data.timestamp is not None
    assert data.timestamp.tolist() == [1600000000, 1600000001]


def test_floats_that_cannot_tell_ids_apart_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    for dtype, value in ((pl.Float32, 2**24 + 2), (pl.Float64, 2**53 + 2)):
        pl.DataFrame({"user_id": pl.Series([1, value], dtype=dtype), "item_id": [1, 2]}).write_parquet(path)
        with pytest.raises(
            InputError, match=r"and above [0-9,]+ such numbers merge several ids into one; write the ids as"
        ):
            read(path)
        pl.DataFrame({"user_id": pl.Series([1, 2**24 - 1], dtype=dtype), "item_id": [1, 2]}).write_parquet(path)
        assert read(path).users.ids.to_list() == [1, 2**24 - 1]


def test_decimals_and_bytes_are_ids(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    user = pl.Series(["1.00", "20.00"]).cast(pl.Decimal(12, 2))
    pl.DataFrame({"user_id": user, "item_id": [b"x", b"y"]}).write_parquet(path)
    data = read(path)
    assert (data.users.ids.to_list(), data.items.ids.to_list()) == ([1, 20], ["x", "y"])


SIX = "1,10,1600000000\n1,11,1500000000000\n1,12,1700000000\n2,10,1600000000\n2,11,1600000001\n2,13,1600000002\n"


def test_times_in_two_units_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(write(tmp_path, HEADER + SIX))
    assert "in seconds and in milliseconds (1 rows, the first: " in str(caught.value)
    assert "data.csv, line 3), so their order is unknown; write all in one unit" in str(caught.value)
    one = write(tmp_path, HEADER + "1,10,1600000000\n", "one.csv")
    pl.DataFrame({"user_id": [2], "item_id": [3], "timestamp": [1.6e15]}).write_parquet(tmp_path / "two.parquet")
    with pytest.raises(InputError, match=r"in seconds and in microseconds|in microseconds and in seconds"):
        read(one, tmp_path / "two.parquet")


@pytest.mark.parametrize(
    ("times", "line", "found"),
    [
        (["1600000000", "2020-01-01", "1600000001"], 3, "is '2020-01-01', a date, and other rows have numbers"),
        (["1600000000", "2020-01-01", "2020-01-02"], 2, "is '1600000000', a number, and other rows have dates"),
        (["2020", "2020-01-01", "2021-01-02"], 2, "is '2020', a number, and other rows have dates"),
        (["2020", "2020", "2020-01-01", "2020-01-02"], 4, "is '2020-01-01', a date, and other rows have numbers"),
        (["2020-01-01", "", "2021-01-02"], 3, "is empty; every row needs a time"),
        (["1", " ", "3"], 3, "is empty; every row needs a time"),
        (["1", "x\x1b", "3"], 3, r"is 'x\x1b', which is neither a number nor a date such as 2026-11-21"),
        (["1", "NaN", "3"], 3, "is 'NaN', which is neither a number nor a date such as 2026-11-21"),
    ],
)
def test_a_time_that_cannot_be_read_is_named(tmp_path: Path, times: list[str], line: int, found: str) -> None:
    text = HEADER + "".join(f"u{row},i{row},{time}\n" for row, time in enumerate(times))
    with pytest.raises(InputError) as caught:
        read(write(tmp_path, text))
    assert f"data.csv, line {line}: 'timestamp' {found}: correct it, leave such rows out with --skip" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ("2019-10-01 00:00:00 UTC", "2019-10-02 00:00:00 UTC", "times), held"),
        ("1569888000", "1569974400", "times in seconds"),
        ("1569888000.5", "1569974400.5", "times in seconds"),
        ("1569888000000", "1569974400000", "times in milliseconds"),
        ("1569888000000000", "1569974400000000", "times in microseconds"),
        ("1569888000000000000", "1569974400000000000", "times in nanoseconds"),
    ],
)
def test_the_unit_of_times_is_said(tmp_path: Path, first: str, last: str, words: str) -> None:
    text = HEADER + "".join(f"{user},{item},{time}\n" for user in "ab" for item, time in (("x", first), (user, last)))
    look = load_split(write(tmp_path, text)).look
    assert words.partition(")")[0] in look[2]
    assert look[4] == "held out: each user's latest item by timestamp, 2019-10-02 to 2019-10-02"


def test_numbers_of_no_unit_are_an_order(tmp_path: Path) -> None:
    look = load_split(write(tmp_path, HEADER + "a,x,1\na,y,2\nb,x,1\nb,z,7\n")).look
    assert look[4] == "held out: each user's latest item by timestamp, 2 to 7"
    with pytest.raises(InputError, match="half_life needs times in seconds, milliseconds"):
        load_split(
            write(tmp_path, HEADER + "a,x,1\na,y,2\nb,x,1\nb,z,7\n"), SplitOptions(reading=Reading(half_life="9d"))
        )


def test_times_in_float32_are_said_to_be_coarse(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"user_id": [1, 1, 2, 2], "item_id": [1, 2, 3, 1], "when": pl.Series([1.6e9] * 4, dtype=pl.Float32)}
    )
    frame.write_parquet(tmp_path / "x.parquet")
    look = load_split(tmp_path / "x.parquet", SplitOptions(Columns(timestamp="when"))).look
    assert "when is float32, in which times that are near to each other are equal" in look[-1]


@pytest.mark.parametrize(
    ("weight", "words"), [("", "is empty, and so not"), ("much", "is 'much', which is not"), ("-1", "is '-1'")]
)
def test_a_weight_that_is_none_is_named(tmp_path: Path, weight: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"line 3: 'weight' {words}.*leave such rows out with --skip-bad-rows, or"):
        read(write(tmp_path, f"user_id,item_id,weight\na,x,1\nb,y,{weight}\n"))
