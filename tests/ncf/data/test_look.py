from __future__ import annotations

from pathlib import Path

from ncf.data.load import load_split
from ncf.data.splits import SplitOptions
from ncf.files.reading import Columns, Reading


def look_of(folder: Path, text: str, columns: Columns | None = None, held_out: int = 1, **reading: object) -> list[str]:
    path = folder / "data.csv"
    path.write_text(text)
    options = SplitOptions(columns or Columns(), Reading(**reading), held_out=held_out)  # type: ignore[arg-type]
    return [line.replace(f"{folder}/", "") for line in load_split(path, options).look]


def test_five_lines_say_what_was_read(tmp_path: Path) -> None:
    text = (
        "userId,movieId,rating,timestamp\n1,10,4,956703932\n1,11,5,956703954\n1,10,3,956703960\n"
        "2,12,4,1046454590\n2,10,1,1046454600\n"
    )
    assert look_of(tmp_path, text) == [
        "read: data.csv, 5 rows",
        "users and items: 2 and 3, with 4 interactions, 66.7 % of all pairs",
        "columns: userId (users), movieId (items), timestamp (times in seconds); not used: rating",
        "left out: 1 repeated pairs of user and item (the latest of each is kept)",
        "held out: each user's latest item by timestamp, 2000-04-25 to 2003-02-28",
    ]


def test_without_times_it_is_said(tmp_path: Path) -> None:
    text = "user_id,item_id\na,x\na,y\na,z\nb,x\nb,w\n"
    assert look_of(tmp_path, text)[2:] == [
        "columns: user_id (users), item_id (items)",
        "left out: nothing",
        "held out: a random item of each user, for there is no column of times",
    ]
    assert look_of(tmp_path, text, held_out=2)[4] == (
        "held out: 2 random items of each user, for there is no column of times"
    )


def test_each_reason_has_its_count_and_its_first_row(tmp_path: Path) -> None:
    text = (
        "user_id,item_id,rating,timestamp\n1,10,5,100\n1,11,x,100\n,12,5,100\n1,13,2,100\n1,14,5,soon\n2,10,5,100,9\n2,11,5,200\n"
        "2,12,5,300\n\nuser_id,item_id,rating,timestamp\n1,15,,200\nNone,3,5,100\n"
    )
    look = look_of(tmp_path, text, skip_bad_rows=True, min_weight=3)
    assert look[0] == "read: data.csv, 12 rows"
    assert look[3] == "left out: " + "; ".join([
        "1 blank lines (first: data.csv, line 10)",
        "1 repeated headers (first: data.csv, line 11)",
        "1 below min_weight (first: data.csv, line 5)",
        "2 with a bad weight (first: data.csv, line 3)",
        "1 with a bad time (first: data.csv, line 6)",
        "1 with too many fields (first: data.csv, line 7)",
        "1 whose user_id is empty (first: data.csv, line 4)",
        "1 whose user_id stands for a missing value (first: data.csv, line 13)",
    ])  # fmt: skip


def test_names_that_are_words_for_missing_are_counted(tmp_path: Path) -> None:
    look = look_of(tmp_path, "user_id,item_id\nann,x\nann,y\nNan,x\nNone,z\nbob,z\n")
    assert look[5:] == [
        "note: 2 rows have a user_id such as 'None' or 'NA', which is taken as a name, for other ids are text"
    ]


def test_columns_without_end_and_control_characters_are_bounded(tmp_path: Path) -> None:
    names = ["user_id", "item_id", "\x1b[31m", *(f"c{number}" for number in range(90))]
    rows = [[user, item, *["1"] * 91] for user, item in ("ax", "ay", "bx", "bz")]
    look = look_of(tmp_path, "".join(",".join(row) + "\n" for row in [names, *rows]))
    assert look[2].endswith(r"not used: \x1b[31m, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 and 79 more")
