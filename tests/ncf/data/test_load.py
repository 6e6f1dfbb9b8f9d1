from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data.load import load_split
from ncf.data.prepare import prepare
from ncf.data.splits import Split, SplitOptions
from ncf.errors import InputError
from ncf.files.reading import Columns, Reading
from tests.ncf.data.read import NAMES, ROWS, put, read, text_of


def known(split: Split) -> tuple[object, ...]:
    """What a split says: its pairs with weights, its held-out items, its look without names of files."""
    users, items = split.train.users, split.train.items
    weight = split.train.weight
    train = zip(
        users.decode(split.train.user_index), items.decode(split.train.item_index),
        [1] * len(split.train) if weight is None else np.round(weight, 5).tolist(), strict=True,
    )  # fmt: skip
    held = zip(users.decode(split.held_out.user_index), items.decode(split.held_out.item_index), strict=True)
    validation = [] if split.validation is None else zip(
        users.decode(split.validation.user_index), items.decode(split.validation.item_index),
        [0] * len(split.validation), strict=True,
    )  # fmt: skip
    pairs = {pair[:2] for pair in (*train, *validation)}
    return users.ids.to_list(), items.ids.to_list(), pairs, set(held), split.look


DIRTY: list[tuple[object, ...]] = [
    *ROWS, (3, 5, "bad", 1_600_000_000), (4, "", 3, 1_600_000_000), (5, 7, 3, "soon"), (6, 6, 4, 1_600_000_000),
    (6, 6, 1, 1_600_000_900),
]  # fmt: skip
ACCENTS = text_of([(f"é{row[0]}", *row[1:]) for row in ROWS])
EVENTS = [(user, ("view", "cart", "buy", "spam")[weight % 4], item, time) for user, item, weight, time in ROWS * 2]
EVENT_NAMES = ["visitorid", "event", "itemid", "timestamp"]
BAD_EVENTS = text_of([*EVENTS, (1, "view", "", 3), (2, "buy", 3, "")], names=EVENT_NAMES)
WEIGHTS = {"event_weights": "view=1,cart=3,buy=10"}
CASES: dict[str, tuple[dict[str, str | bytes], dict[str, object]]] = {
    "plain": ({"a.csv": text_of(ROWS)}, {}),
    "several files": ({"a.csv": text_of(ROWS[:40]), "b.tsv": text_of(ROWS[40:], "\t")}, {}),
    "no header": ({"a.dat": text_of(ROWS, "::", None)}, {"no_header": True, "names": ",".join(NAMES)}),
    "separator": ({"a.txt": text_of(ROWS, ".*")}, {"separator": ".*"}),
    "encoding": ({"a.csv": ACCENTS.encode("latin-1")}, {"encoding": "latin-1"}),
    "skip_bad_rows": ({"a.csv": text_of(DIRTY)}, {"skip_bad_rows": True}),
    "min_weight": ({"a.csv": text_of(ROWS)}, {"min_weight": 3.0}),
    "event_weights": ({"a.csv": text_of(EVENTS, names=EVENT_NAMES)}, WEIGHTS),
    "sum_repeats": ({"a.csv": text_of(ROWS + ROWS[::3])}, {"sum_repeats": True}),
    "half_life": ({"a.csv": text_of(ROWS)}, {"half_life": "5d"}),
    "all of it": ({"a.csv.gz": gzip.compress(BAD_EVENTS.encode())},
                  {**WEIGHTS, "sum_repeats": True, "half_life": "2w", "skip_bad_rows": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_prepare_reads_as_training_does(tmp_path: Path, case: str) -> None:
    files, reading = CASES[case]
    paths = put(tmp_path / "data", files)
    options = SplitOptions(reading=Reading(**reading))  # type: ignore[arg-type]
    in_memory = load_split(paths, options)
    prepare(paths, tmp_path / "prepared", options, validation=True)
    prepared = load_split(tmp_path / "prepared")
    one, other = known(in_memory), known(prepared)
    assert one[:2] == other[:2]
    assert one[2] == other[2]
    assert one[3] == other[3]
    assert one[4] == other[4]
    weights = [split.train.weight for split in (in_memory, prepared)]
    assert (weights[0] is None) == (weights[1] is None)
    if weights[0] is not None and weights[1] is not None:
        found = {}
        for split, weight in zip((in_memory, prepared), weights, strict=True):
            assert weight is not None
            for pair in zip(split.train.user_index, split.train.item_index, weight, strict=True):
                found.setdefault(tuple(map(int, pair[:2])), []).append(float(pair[2]))
        assert all(len(pair) == 1 or pair[0] == pytest.approx(pair[1]) for pair in found.values())


def test_weights_are_what_the_options_say(tmp_path: Path) -> None:
    (path,) = put(
        tmp_path,
        {"a.csv": "user,item,event,rating,date\n1,1,view,2,2024-01-11\n1,1,buy,3,2024-01-01\n2,3,cart,1,2024-01-11\n"},
    )
    events = "view=1,cart=3,buy=10"
    day = {"half_life": "10d"}

    def weights(columns: Columns | None = None, **reading: object) -> list[float]:
        data = read(path, columns=columns, **reading)
        assert data.weight is not None
        return [round(float(weight), 4) for _, weight in sorted(zip(data.user_index, data.weight, strict=True))]

    assert weights(event_weights=events) == [1, 3]
    assert weights(event_weights=events, sum_repeats=True) == [11, 3]
    assert weights(event_weights=events, sum_repeats=True, **day) == [6, 3]
    assert weights(event_weights=events, columns=Columns(weight="rating"), sum_repeats=True) == [32, 3]
    assert weights(sum_repeats=True) == [5, 1]
    assert weights(min_weight=2, sum_repeats=True) == [5]
    assert weights(**day) == [1, 1]
    assert weights(**day, columns=Columns(weight="rating"), sum_repeats=True) == [3.5, 1]


def test_empty_parts_are_left_out_and_said(tmp_path: Path) -> None:
    files = {"1.csv": text_of(ROWS), "2.csv": text_of([]), "3.csv": b"", "4.csv.gz": gzip.compress(b"")}
    put(tmp_path / "data", files)
    pl.DataFrame(ROWS, NAMES, orient="row").clear().write_parquet(tmp_path / "data" / "5.parquet")
    split = load_split(tmp_path / "data")
    assert split.look[0] == f"read: {tmp_path / 'data' / '1.csv'}, {len(ROWS)} rows"
    assert [line.rpartition("/")[2] for line in split.look[5:]] == [
        f"{name} has no rows and is left out" for name in ("2.csv", "3.csv", "4.csv.gz", "5.parquet")
    ]
    for path in ("1.csv", "5.parquet"):
        (tmp_path / "data" / path).unlink()
    with pytest.raises(InputError, match="no file has rows; give a file with a header and rows"):
        load_split(tmp_path / "data")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("header", ["user_id,item_id,weight,timestamp", "user_id, item_id,weight,timestamp"])
def test_a_header_amid_the_data_is_no_user(tmp_path: Path, mark: str, header: str) -> None:
    text = text_of(ROWS, names=header.split(","))
    (path,) = put(tmp_path, {"x.csv": text + mark + text})
    split = load_split(path)
    assert split.train.users.ids.to_list() == list(range(12))
    assert f"1 repeated headers (first: {path}, line {len(ROWS) + 2})" in split.look[3]
    (path,) = put(tmp_path, {"x.csv": text + "item_id,user_id,weight,timestamp\n" + text_of(ROWS, names=None)})
    with pytest.raises(
        InputError, match=rf"x.csv, line {len(ROWS) + 2}: this line is a header with the columns in another"
    ):
        load_split(path)


def test_several_files_are_one_table_and_need_the_same_columns(tmp_path: Path) -> None:
    one, two = put(
        tmp_path, {"1.csv": text_of(ROWS[:40]), "2.csv": text_of([row[:3] for row in ROWS[40:]], names=NAMES[:3])}
    )
    with pytest.raises(
        InputError, match=r"2.csv has no column 'timestamp' and .*1.csv has; give it to all files or to none"
    ):
        load_split([one, two])


MOVIELENS = {
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n", "movies.csv": "movieId,title,genres\n1,Toy Story,Comedy\n",
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n",
    "tags.csv": "userId,movieId,tag,timestamp\n2,1,fun,1445714994\n",
    "README.txt": "read me",
}  # fmt: skip


def test_a_folder_of_different_tables_names_those_that_can_be_meant(tmp_path: Path) -> None:
    put(tmp_path / "ml-latest", MOVIELENS)
    folder = tmp_path / "ml-latest"
    with pytest.raises(InputError) as caught:
        load_split(folder)
    assert str(caught.value) == (
        f"{folder}/links.csv holds no interactions (movieId, imdbId, tmdbId), and {folder}/ratings.csv, "
        f"{folder}/tags.csv can; give only such files, as --data {folder}/ratings.csv"
    )
    for name in ("links.csv", "movies.csv"):
        (folder / name).unlink()
    with pytest.raises(
        InputError, match=r"so they are hardly parts of one table; give the files that you mean, as --data "
    ):
        load_split(folder)
    with pytest.raises(InputError, match="holds one user only"):
        load_split(folder / "ratings.csv")


def test_a_folder_with_a_split_of_its_own_takes_no_other_data_and_no_options(tmp_path: Path) -> None:
    (path,) = put(tmp_path, {"x.csv": text_of(ROWS)})
    prepare([path], tmp_path / "prepared")
    put(tmp_path / "paper", {
        "ml.train.rating": "0\t1\t5\t1\n1\t2\t5\t1\n", "ml.test.rating": "0\t2\t5\t2\n1\t1\t5\t2\n",
        "ml.test.negative": "(0,2)\t3\n(1,1)\t3\n",
    })  # fmt: skip
    for folder in ("prepared", "paper"):
        with pytest.raises(
            InputError, match="is a folder with a split of its own; give it alone, or files of interactions"
        ):
            load_split([path, tmp_path / folder])
        for options, words in (
            (SplitOptions(Columns(weight="stars")), "the weight column 'stars'"),
            (SplitOptions(Columns(user_id="who")), "the user_id column 'who'"),
            (SplitOptions(reading=Reading(min_weight=3)), "min_weight = 3"),
            (SplitOptions(reading=Reading(separator=";")), "separator = ;"),
            (SplitOptions(reading=Reading(skip_bad_rows=True)), "skip_bad_rows = True"),
            (SplitOptions(held_out=2), "held_out = 2"),
        ):
            with pytest.raises(
                InputError, match=f"has its own split: {words} cannot be applied to it; leave the option out"
            ):
                load_split(tmp_path / folder, options)
