from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.k_core import core_of, k_core
from ncf.data.load import load_split
from ncf.data.paper_format import read_paper_folder
from ncf.data.splits import HeldOut, Split, SplitOptions, leave_one_out, random_order
from ncf.data.tables import read_interactions
from ncf.errors import InputError

pytestmark = pytest.mark.core


def paper_folder(folder: Path, **files: str) -> Path:
    texts = {
        "t.train.rating": "0\t0\t5\t9\n0\t1\t3\t8\n1\t2\t1\t7\n",
        "t.test.rating": "0\t3\t4\t9\n1\t0\t4\t9\n",
        "t.test.negative": "(0,3)\t2\t4\n(1,0)\t1\t0\n",
    }
    for name, text in {**texts, **files}.items():
        (folder / name).write_text(text)
    return folder


def test_the_latest_item_of_each_user_is_held_out(food_csv: Path) -> None:
    data = read_interactions(food_csv)
    split = leave_one_out(data)
    assert data.timestamp is not None
    latest = {user: max(data.timestamp[data.user_index == user]) for user in range(data.num_users)}
    time_of = {(u, i): t for u, i, t in zip(data.user_index, data.item_index, data.timestamp, strict=True)}
    assert len(split.held_out) == data.num_users
    for user, item in zip(split.held_out.user_index, split.held_out.item_index, strict=True):
        assert time_of[user, item] == latest[user]
    pairs = set(zip(split.train.user_index, split.train.item_index, strict=True))
    assert len(pairs) + len(split.held_out) == len(data)
    assert not pairs & set(zip(split.held_out.user_index, split.held_out.item_index, strict=True))


def test_without_timestamps_the_choice_is_random_and_seeded(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("user_id,item_id\n" + "".join(f"u{u},i{i}\n" for u in range(9) for i in range(u % 3, 30)))
    one, same, other = (load_split(path, SplitOptions(seed=seed)).held_out.item_index.tolist() for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_user_with_one_item_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("user_id,item_id\na,x\nb,x\nb,y\n")
    split = load_split(path)
    assert split.held_out.user_index.tolist() == [1]
    path.write_text("user_id,item_id\na,x\nb,y\n")
    with pytest.raises(InputError, match="nothing can be held out"):
        load_split(path)


def test_several_items_of_each_user_are_held_out_the_latest_ones(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = [("a", item, 9 - item) for item in range(5)] + [("b", 0, 1), ("b", 1, 2), ("c", 4, 1)]
    path.write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    split = load_split(path, SplitOptions(held_out=3))
    assert split.held_out.user_index.tolist() == [0, 0, 0, 1]  # b keeps one to train on, c its only one
    assert split.held_out.item_index.tolist() == [2, 1, 0, 1]
    assert sorted(zip(split.train.user_index, split.train.item_index, strict=True)) == [(0, 3), (0, 4), (1, 0), (2, 4)]
    # Cutting in two steps holds out the same as cutting once.
    again = leave_one_out(load_split(path, SplitOptions(held_out=1)).train, held_out=2)
    assert again.held_out.item_index.tolist() == [2, 1]


def test_of_two_at_the_same_time_the_later_row_is_held_out(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("user_id,item_id,timestamp\na,z,5\na,x,5\na,y,5\nb,x,1\n")
    split = load_split(path, SplitOptions(held_out=2))
    assert split.train.items.decode(split.held_out.item_index) == ["x", "y"]


def test_without_timestamps_the_choice_depends_on_ids_and_seed_only(tmp_path: Path) -> None:
    """Neither on the order of the rows, nor on rows of other pairs, as long as the same ids are in the data."""
    path = tmp_path / "d.csv"

    def held_out(rows: list[tuple[str, str]], seed: int = 0) -> dict[object, object]:
        path.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in rows))
        split = load_split(path, SplitOptions(seed=seed))
        users, items = split.train.users, split.train.items
        return dict(zip(users.decode(split.held_out.user_index), items.decode(split.held_out.item_index), strict=True))

    rows = [(f"user {u}", f"item {i}") for u in range(40) for i in range(u % 3, 30)]
    chosen = held_out(rows)
    assert len(chosen) == 40
    shuffled = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    assert held_out(shuffled) == chosen
    fewer = [(user, item) for user, item in shuffled if chosen[user] == item or int(item[5:]) % 2 or user == "user 0"]
    assert len(fewer) < len(rows) - 400
    assert held_out(fewer) == chosen
    assert held_out(rows, seed=2**63 - 1) != chosen


def test_the_random_order_is_different_for_each_pair_and_even() -> None:
    user, item = np.repeat(np.arange(300), 300), np.tile(np.arange(300), 300)
    order = random_order(user, item, 0)
    assert len(np.unique(order)) == len(order)
    # Each place is a user's largest equally often: the chi-square over 300 items stays within five deviations.
    chosen = np.bincount(order.reshape(300, 300).argmax(1), minlength=300)
    assert abs(((chosen - 1) ** 2).sum() - 299) < 5 * (2 * 299) ** 0.5


def brute_core(pairs: set[tuple[int, int]], of_user: int, of_item: int) -> set[tuple[int, int]]:
    while True:
        users, items = [u for u, _ in pairs], [i for _, i in pairs]
        kept = {(u, i) for u, i in pairs if users.count(u) >= of_user and items.count(i) >= of_item}
        if kept == pairs:
            return kept
        pairs = kept


@pytest.mark.parametrize(("of_user", "of_item"), [(1, 1), (3, 1), (1, 4), (3, 4), (5, 5), (6, 6)])
def test_the_k_core_is_what_is_left_when_no_more_has_to_go(of_user: int, of_item: int) -> None:
    random = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in zip(random.integers(0, 40, 150), random.integers(0, 25, 150), strict=True)}
    users, items = (IdIndex(pl.Series(range(100, 100 + size))) for size in (40, 25))
    user, item = (np.array(index, np.int32) for index in zip(*sorted(pairs), strict=True))
    data = Interactions(users, items, user, item, item.astype(np.float32), user)
    expected = brute_core(pairs, of_user, of_item)
    if not expected:
        with pytest.raises(InputError, match=r"no interaction is left .* lower min_user_interactions"):
            k_core(data, of_user, of_item)
        return
    core = k_core(data, of_user, of_item)
    raw = zip(core.users.decode(core.user_index), core.items.decode(core.item_index), strict=True)
    assert {(int(u) - 100, int(i) - 100) for u, i in raw} == expected
    assert core.weight is not None
    assert [100 + weight for weight in core.weight] == core.items.decode(core.item_index)
    if len(expected) < len(pairs):
        assert (core.num_users, core.num_items) == (len({u for u, _ in expected}), len({i for _, i in expected}))
        halves = [(user[:70], item[:70]), (user[70:], item[70:])]
        assert core_of(halves, 40, 25, of_user, of_item)[0].sum() == core.num_users


def test_a_file_can_be_asked_for_its_core(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "d.csv"
    path.write_text("user_id,item_id\na,x\na,y\nb,x\nb,y\nb,z\nc,y\nc,z\nd,z\nd,rare\n")
    split = load_split(path, SplitOptions(min_user_interactions=2, min_item_interactions=2))
    assert split.train.users.ids.to_list() == ["a", "b", "c"]
    assert split.train.items.ids.to_list() == ["x", "y", "z"]
    assert "1 of 4 users, 1 of 4 items and 2 of 9 interactions are left out" in caplog.text
    path.write_text("user_id,item_id\na,x\na,y\nb,x\nc,y\n")
    with pytest.raises(InputError, match="min_user_interactions = 2 and min_item_interactions = 1 holds one user only"):
        load_split(path, SplitOptions(min_user_interactions=2))


@pytest.mark.parametrize("option", ["held_out", "min_user_interactions", "min_item_interactions"])
def test_options_that_cannot_be_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is 0; it must be at least 1"):
        load_split(tmp_path / "d.csv", SplitOptions(**{option: 0}))
    with pytest.raises(InputError, match=f"which has its own split: {option} = 2 cannot be applied"):
        load_split(paper_folder(tmp_path), SplitOptions(**{option: 2}))


def test_the_papers_format_keeps_its_split_and_negatives(tmp_path: Path) -> None:
    split = read_paper_folder(paper_folder(tmp_path))
    assert split.train.items.ids.to_list() == [0, 1, 2, 3, 4]
    assert split.held_out.user_index.tolist() == [0, 1]
    assert split.held_out.item_index.tolist() == [3, 0]
    assert split.held_out.negatives is not None
    assert split.held_out.negatives.tolist() == [[2, 4], [1, 0]]
    assert split.train.weight is None  # a rating there says nothing: feedback is implicit


def test_negatives_of_unequal_number_are_padded(tmp_path: Path) -> None:
    split = read_paper_folder(paper_folder(tmp_path, **{"t.test.negative": "(0,3)\t2\t4\n(1,0)\t1\n"}))
    assert split.held_out.negatives is not None
    assert split.held_out.negatives.tolist() == [[2, 4], [1, -1]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.test.negative", "(0,3)\t2\t4\n", "has 1 rows"),
        ("t.test.negative", "(0,3)\t2\t4\n(1,1)\t1\t0\n", "row 2 is for (1,1)"),
        ("t.test.negative", "(0,3)\t2\tx\n(1,0)\t1\t0\n", "expected rows of (user,item)"),
        ("t.test.negative", "(0,3)\n(1,0)\n", "holds no negatives"),
        ("t.train.rating", "0\t0\t5\t9\n\t1\t5\t9\n", "row 2 lacks a user"),
        ("t.train.rating", "0\tx\t5\t9\n", "expected rows of user, item, rating, timestamp"),
        ("u.test.negative", "(0,3)\t2\n", "exactly one file named *.test.negative (found: t.test.negative, u."),
    ],
)
def test_a_bad_folder_is_refused_with_its_reason(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_split(paper_folder(tmp_path, **{name: text}))
    assert message in str(caught.value)


def test_one_user_only_is_refused_in_a_folder_too(tmp_path: Path) -> None:
    files = {"t.train.rating": "0\t0\t5\t9\n", "t.test.rating": "0\t3\t4\t9\n", "t.test.negative": "(0,3)\t2\t4\n"}
    with pytest.raises(InputError, match="one user only"):
        load_split(paper_folder(tmp_path, **files))


def test_a_held_out_pair_is_never_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leaky = "0\t0\t5\t9\n0\t3\t3\t8\n1\t2\t1\t7\n"
    with caplog.at_level(logging.WARNING):
        split = read_paper_folder(paper_folder(tmp_path, **{"t.train.rating": leaky}))
    assert "1 held-out pairs are in" in caplog.text
    assert set(zip(split.train.user_index, split.train.item_index, strict=True)) == {(0, 0), (1, 2)}


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"exactly one file named \*.train.rating \(found: none\)"):
        load_split(tmp_path)


def test_reindex_leaves_out_what_the_other_index_does_not_know(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "d.csv"
    path.write_text("user_id,item_id\na,x\na,y\nb,x\nb,z\nc,x\nc,y\n")
    split = load_split(path)
    smaller = tmp_path / "e.csv"
    smaller.write_text("user_id,item_id\na,y\nb,x\na,z\n")
    known = read_interactions(smaller)
    with caplog.at_level(logging.WARNING):
        moved = split.reindex(known.users, known.items)
    assert "left out" in caplog.text
    raw = [known.users.decode(moved.train.user_index), known.items.decode(moved.train.item_index)]
    assert "c" not in raw[0]
    before = list(zip(split.train.user_index, split.train.item_index, strict=True))
    names = {(split.train.users.ids[int(u)], split.train.items.ids[int(i)]) for u, i in before}
    assert set(zip(*raw, strict=True)) == {pair for pair in names if pair[0] != "c"}
    assert np.all(moved.held_out.user_index >= 0)
    assert split.reindex(split.train.users, split.train.items) is split


def test_reindex_takes_the_validation_items_along() -> None:
    users, items = (IdIndex(pl.Series(["a", "b", "c"])) for _ in range(2))
    index = np.arange(3)
    split = Split(Interactions(users, items, index, index), HeldOut(index, index[::-1]), HeldOut(index, index))
    moved = split.reindex(IdIndex(pl.Series(["b", "c"])), items)
    assert moved.validation is not None
    assert (moved.validation.user_index.tolist(), moved.validation.item_index.tolist()) == ([0, 1], [1, 2])
    assert (moved.held_out.user_index.tolist(), moved.held_out.item_index.tolist()) == ([0, 1], [1, 0])
