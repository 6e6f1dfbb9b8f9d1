from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.k_core import core_of, k_core
from ncf.data.load import load_split
from ncf.data.prepare import prepare
from ncf.data.protocols import leave_one_out
from ncf.data.splits import HeldOut, Split, SplitOptions
from ncf.errors import InputError
from tests.ncf.data.read import read

pytestmark = pytest.mark.core


def test_the_latest_item_of_each_user_is_held_out(food_csv: Path) -> None:
    data = read(food_csv)
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


@pytest.mark.parametrize("ids", ["text", "numbers"])
@pytest.mark.parametrize("added", ["a user", "an item", "a user whose id is text", "an item whose id is text"])
@pytest.mark.parametrize("how", ["in memory", "prepared"])
def test_a_new_user_or_item_changes_no_other_users_held_out_items(
    tmp_path: Path, ids: str, added: str, how: str
) -> None:
    """Without timestamps; a user who has the new item may have it held out, and otherwise the same items as before."""
    path = tmp_path / "d.csv"

    def held_out(rows: list[tuple[str, str]], name: str) -> tuple[dict[str, str], dict[str, str]]:
        """By user the item held out for the test, and the one to choose the epoch by."""
        path.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in rows))
        if how == "prepared":
            prepare([path], tmp_path / name)
            split = load_split(tmp_path / name)
            cut = split.validation
            assert cut is not None
        else:
            split = load_split(path)
            cut = leave_one_out(split.train).held_out
        users, items = split.train.users, split.train.items
        test, choice = (
            {str(u): str(i) for u, i in zip(users.decode(each.user_index), items.decode(each.item_index), strict=True)}
            for each in (split.held_out, cut)
        )
        return test, choice

    user_word, item_word = ("user ", "item ") if ids == "text" else ("", "")
    rows = [(f"{user_word}{u}", f"{item_word}{i}") for u in range(10, 50) for i in range(100 + u % 3, 130)]
    before = held_out(rows, "before")
    word = "0 first" if added.endswith("text") else "1"  # sorted before all others, so every index is another one
    new_id = word if ids == "numbers" else f"aaa {word}"
    mine = [user for user, _ in rows[:: 30 * 8]]  # who get the new item
    more = [(user, new_id) for user in mine] if "item" in added else [(new_id, item) for _, item in rows[:9]]
    after = held_out(rows + more, "after")
    for one, other in zip(before, after, strict=True):
        assert set(other) == set(one) | ({new_id} if "user" in added else set())
        changed = {user for user in one if one[user] != other[user]}
        assert changed <= (set(mine) if "item" in added else set())
    assert all(new_id in (after[0][user], after[1][user]) for user in mine if before[0][user] != after[0][user])


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


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no file that ends in"):
        load_split(tmp_path)


def test_reindex_leaves_out_what_the_other_index_does_not_know(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "d.csv"
    path.write_text("user_id,item_id\na,x\na,y\nb,x\nb,z\nc,x\nc,y\n")
    split = load_split(path)
    smaller = tmp_path / "e.csv"
    smaller.write_text("user_id,item_id\na,y\nb,x\na,z\n")
    known = read(smaller)
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
