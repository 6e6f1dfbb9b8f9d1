from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from ncf.errors import InputError
from ncf.interactions import read_interactions
from ncf.splits import leave_one_out, load_split, read_paper_folder


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
    one, same, other = (load_split(path, seed=seed).held_out.item_index.tolist() for seed in (1, 1, 2))
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
    assert "1 held-out pairs stand in" in caplog.text
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
