from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ncf.data.load import load_split
from ncf.data.paper_format import read_paper_folder
from ncf.data.splits import Split, SplitOptions
from ncf.errors import InputError
from ncf.evaluation.ranking import Candidates

pytestmark = pytest.mark.core

USUAL = {
    "t.train.rating": "0\t0\t5\t9\n0\t1\t3\t8\n1\t2\t1\t7\n",
    "t.test.rating": "0\t3\t4\t9\n1\t0\t4\t9\n",
    "t.test.negative": "(0,3)\t2\t4\n(1,0)\t1\t0\n",
}


def paper_folder(folder: Path, **files: str | bytes | None) -> Path:
    """The usual files, but those given; None leaves a file out."""
    for name, text in {**USUAL, **files}.items():
        if text is not None:
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def content(split: Split) -> object:
    """Everything in a split that the folder decides."""
    held_out, train = split.held_out, split.train
    assert held_out.negatives is not None
    return (
        train.users.ids.to_list(), train.items.ids.to_list(), train.user_index.tolist(), train.item_index.tolist(),
        train.timestamp is not None and train.timestamp.tolist(), held_out.user_index.tolist(),
        held_out.item_index.tolist(), held_out.negatives.tolist(),
    )  # fmt: skip


def test_the_papers_format_keeps_its_split_and_negatives(tmp_path: Path) -> None:
    split = load_split(paper_folder(tmp_path))
    assert split.train.items.ids.to_list() == [0, 1, 2, 3, 4]
    assert split.held_out.user_index.tolist() == [0, 1]
    assert split.held_out.item_index.tolist() == [3, 0]
    assert split.held_out.negatives is not None
    assert split.held_out.negatives.tolist() == [[2, 4], [1, 0]]
    assert split.train.weight is None  # a rating there says nothing: feedback is implicit


@pytest.mark.parametrize("option", ["held_out", "min_user_interactions", "min_item_interactions"])
def test_it_is_not_split_again(tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError, match=f"which has its own split: {option} = 2 cannot be applied"):
        load_split(paper_folder(tmp_path), SplitOptions(**{option: 2}))


def test_negatives_of_unequal_number_are_padded(tmp_path: Path) -> None:
    split = read_paper_folder(paper_folder(tmp_path, **{"t.test.negative": "(0,3)\t2\t4\n(1,0)\t1\n"}))
    assert split.held_out.negatives is not None
    assert split.held_out.negatives.tolist() == [[2, 4], [1, -1]]


def test_without_a_file_of_negatives_they_are_drawn(tmp_path: Path) -> None:
    split = load_split(paper_folder(tmp_path, **{"t.test.negative": None}))
    assert split.train.items.ids.to_list() == [0, 1, 2, 3]
    assert split.held_out.negatives is None
    drawn = Candidates.of(split.held_out, split, torch.device("cpu"), seed=0)
    seen = {0: {0, 1, 3}, 1: {2, 0}}
    for user, (items, excluded) in enumerate(zip(drawn.negatives, drawn.excluded, strict=True)):
        assert set(items[~excluded].tolist()) == {0, 1, 2, 3} - seen[user]  # fewer than 99 are unseen: all of them


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\n" + text.replace("\n", "\n\n \n"),
        lambda text: text + "\x1a",
        lambda text: text + "\x1a\r\n",
        lambda text: text.rstrip("\n"),
        lambda text: "\ufeff" + text,
    ],
    ids=["windows", "blank lines", "ctrl-z", "ctrl-z line", "no last line break", "byte order mark"],
)
def test_files_of_other_systems_are_read_alike(tmp_path: Path, change: object) -> None:
    assert callable(change)
    usual = content(read_paper_folder(paper_folder(tmp_path)))
    changed = {name: change(text) for name, text in USUAL.items()}
    assert content(read_paper_folder(paper_folder(tmp_path, **changed))) == usual


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    usual = content(read_paper_folder(paper_folder(tmp_path)))
    ratings = {
        "t.train.rating": "0.0\t0.0\t5\t9.0\n0.0\t1.0\t3\t8.0\n1.0\t2.0\t1\t7.0\n",
        "t.test.rating": "0\t3.00\t4\t9\n1\t0.00\t4\t9\n",
    }
    assert content(read_paper_folder(paper_folder(tmp_path, **ratings))) == usual
    negatives = "(0.0,3.0)\t2.0\t4.0\n(1.0, 0)\t1.0\t0.0\n"
    assert content(read_paper_folder(paper_folder(tmp_path, **{"t.test.negative": negatives}))) == usual


def test_ids_may_be_text(tmp_path: Path) -> None:
    split = read_paper_folder(
        paper_folder(
            tmp_path,
            **{
                "t.train.rating": 'ann\tçay\t5\t9\nann\t"b\t3\t8\nbob\ta, b\t1\t7.5\n',
                "t.test.rating": "ann\t07\t4\t9\nbob\ta,c\t4\t9\n",
                "t.test.negative": "(ann,07)\tçay\tx\n(bob,a,c)\ta, b\t07\n",
            },
        )
    )
    assert split.train.users.ids.to_list() == ["ann", "bob"]
    assert split.train.items.ids.to_list() == ['"b', "07", "a, b", "a,c", "x", "çay"]
    assert split.held_out.item_index.tolist() == [1, 3]
    assert split.held_out.negatives is not None
    assert split.held_out.negatives.tolist() == [[5, 4], [2, 1]]
    assert split.train.timestamp is not None
    assert split.train.timestamp.tolist() == [7.5, 8, 9]


LONG = "x" * 1025


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.test.negative", "(0,3)\t2\t4\n", "t.test.negative has 1 rows and {folder}/t.test.rating has 2; each"),
        ("t.test.negative", "(0,3)\t2\t4\n\n(1,1)\t1\t0\n", "t.test.negative, line 3: the user or the item is anoth"),
        ("t.test.negative", "(0,3)\t2\n1,0\t1\t0\n", "line 2: there is no (user,item) at its begin; a row is (user,"),
        ("t.test.negative", "(0,3)\n(1,0)\n", "holds no negatives; a row is (user,item), as in the same row of the t"),
        ("t.test.negative", "", "t.test.negative has no rows; a row is (user,item)"),
        ("t.train.rating", "0\t0\t5\t9\n\n\t1\t5\t9\n", "t.train.rating, line 3: the user is empty; a row is user,"),
        ("t.train.rating", "0\t0\t5\t9\n1\t \t5\t9\n", "line 2: the item is empty; a row is user, item, rating and"),
        ("t.train.rating", f"0\t0\t5\t9\n1\t{LONG}\t5\t9\n", "line 2: the item has more than 1,024 characters; sho"),
        ("t.train.rating", "0\t0\t5\t9\r\n0\t0\t5\n", "line 2: there are fewer than four fields; a row is user, i"),
        ("t.train.rating", "0\t0\t5\t9\n0\t0\t5\t9\t9\t9\n", "line 2: there are more than four fields; a row is u"),
        (
            "t.train.rating",
            "0 0 5 9\n",
            "line 1: there are fewer than four fields; a row is user, item, rating and times",
        ),
        ("t.test.rating", "0\t3\t4\t9\n1\t0\t4\tnow\n", "t.test.rating, line 2: the timestamp is not a number; write"),
        ("t.test.rating", "0\t3\t4\t9\n1\t0\t4\tnow\n", "the line is '1\\t0\\t4\\tnow'"),
        ("t.test.rating", "0\t3\t4\t9\n1\t0\t4\tinf\n", "the timestamp is not a number"),
        (
            "t.test.rating",
            b"0\t3\t4\t9\n\n1\t\xff\t4\t9\n",
            "t.test.rating, line 3 is no UTF-8 text; write the file as",
        ),
        ("u.test.negative", "(0,3)\t2\n", "exactly one file named *.test.negative (found: t.test.negative, u."),
        ("t.test.rating", None, "exactly one file named *.test.rating (found: none)"),
    ],
)
def test_a_bad_folder_is_refused_with_its_reason(
    tmp_path: Path, name: str, text: str | bytes | None, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_split(paper_folder(tmp_path, **{name: text}))
    assert message.format(folder=tmp_path) in str(caught.value)


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


ML_1M = Path(os.environ.get("NCF_ML1M", Path(__file__).parents[4] / "shared" / "data" / "ml-1m"))


@pytest.mark.skipif(not ML_1M.is_dir(), reason="MovieLens-1M may not be redistributed; point NCF_ML1M at its folder")
def test_movielens_1m_is_the_papers() -> None:
    split = load_split(ML_1M)
    train, held_out = split.train, split.held_out
    assert (len(train), train.num_users, train.num_items, len(held_out)) == (994_169, 6040, 3706, 6040)
    assert held_out.negatives is not None
    assert held_out.negatives.shape == (6040, 99)
    first = (ML_1M / "ml-1m.test.negative").read_text().split("\n")[0].split("\t")
    assert first[0] == f"({held_out.user_index[0]},{held_out.item_index[0]})"
    assert first[1:] == list(map(str, held_out.negatives[0]))
    assert np.array_equal(held_out.user_index, np.arange(6040))
