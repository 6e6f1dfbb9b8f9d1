from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch

from ncf.data import lines
from ncf.data.adjacency import is_adjacency, read_adjacency_folder
from ncf.data.load import load_split
from ncf.data.splits import HeldOut, Split, SplitOptions
from ncf.errors import InputError
from ncf.training.config import TrainConfig
from tests.support.training import figures, train

pytestmark = pytest.mark.core


def folder_of(folder: Path, train: str | bytes = "0 0 1\n1 2 1\n", test: str | bytes = "0 3 2\n1 0\n") -> Path:
    for name, text in (("train.txt", train), ("test.txt", test)):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def pairs(split: Split, of: HeldOut | None = None) -> list[tuple[object, object]]:
    """The pairs of the held-out items, or of the training, in raw ids."""
    rows = of or split.train
    return list(zip(split.train.users.decode(rows.user_index), split.train.items.decode(rows.item_index), strict=True))


def test_all_items_of_a_user_in_the_test_file_are_held_out(tmp_path: Path) -> None:
    split = load_split(folder_of(tmp_path))
    assert pairs(split) == [(0, 0), (0, 1), (1, 2), (1, 1)]
    assert pairs(split, split.held_out) == [(0, 3), (0, 2), (1, 0)]
    assert (split.held_out.negatives, split.train.timestamp, split.train.weight, split.validation) == (None,) * 4


def test_who_and_what_is_in_the_test_file_only_has_an_index(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = load_split(folder_of(tmp_path, "0 0 1\n1 2\n", "0 9\n7 0 8\n"))
    assert split.train.users.ids.to_list() == [0, 1, 7]
    assert split.train.items.ids.to_list() == [0, 1, 2, 8, 9]
    assert pairs(split, split.held_out) == [(0, 9), (7, 0), (7, 8)]
    assert "1 users have held-out items and no item to train on" in caplog.text


def test_users_without_items_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = load_split(folder_of(tmp_path, "0 0 1\n1 2\n2\n3 \n", "0 3\n1\n2\n3 1\n"))
    assert split.train.users.ids.to_list() == [0, 1, 3]
    assert "1 users have no item in train.txt or test.txt and are left out" in caplog.text


def test_a_held_out_pair_is_never_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        split = load_split(folder_of(tmp_path, "0 0 3 1\n1 2 1\n", "0 3\n"))
    assert pairs(split) == [(0, 0), (0, 1), (1, 2), (1, 1)]
    assert f"1 held-out pairs are in {tmp_path}/train.txt as well and are left out of training" in caplog.text


def test_a_repeated_item_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split = load_split(folder_of(tmp_path, "0 0 1 0\n1 2 1\n", "0 3 2 3 3\n"))
    assert sorted(pairs(split), key=str) == [(0, 0), (0, 1), (1, 1), (1, 2)]
    assert pairs(split, split.held_out) == [(0, 3), (0, 2)]
    assert "1 repeated (user, item) pairs" in caplog.text
    assert f"2 repeated (user, item) pairs in {tmp_path}/test.txt count once" in caplog.text


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("0 0 1\r\n1 2 1\r\n", "0 3 2\r\n1 0"),
        ("\n0 0 1\n \n1 2 1 \n\n", "0  3   2\n1 0\n\x1a"),
        (" 0 0 1\n1 2 1\x1a", "\ufeff0 3\t2\n\t1 0\n"),
    ],
)
def test_blanks_are_nothing(tmp_path: Path, train: str, test: str) -> None:
    usual = load_split(folder_of(tmp_path))
    split = load_split(folder_of(tmp_path, train, test))
    assert (pairs(split), pairs(split, split.held_out)) == (pairs(usual), pairs(usual, usual.held_out))


@pytest.mark.parametrize("block", [1, 5, 2**20])
def test_blocks_of_the_file_do_not_show(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text id makes all ids text, wherever it is."""
    folder = folder_of(tmp_path, "0 0 1\n\n12345 i 1\n", "0 33 2\n")
    monkeypatch.setattr(lines, "BYTES_AT_ONCE", block)
    split = read_adjacency_folder(folder)
    assert split.train.users.ids.to_list() == [0, 12345]
    assert split.train.items.ids.to_list() == ["0", "1", "2", "33", "i"]
    assert pairs(split) == [(0, "0"), (0, "1"), (12345, "i"), (12345, "1")]
    folder_of(tmp_path, b"0 0 1\n1 2\n\n2 \xff\n")
    with pytest.raises(InputError, match=r"train.txt, line 4 is no UTF-8 text"):
        read_adjacency_folder(folder)


def test_ids_may_be_text(tmp_path: Path) -> None:
    split = load_split(folder_of(tmp_path, "ann çay 07\nbob b 07\n", "ann b\n"))
    assert pairs(split) == [("ann", "çay"), ("ann", "07"), ("bob", "b"), ("bob", "07")]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("", "0 1\n", "train.txt holds no interaction; a row is a user and then all items of this user, separated by"),
        ("0\n1\n", "0 1\n", "train.txt holds no interaction"),
        ("0 1\n1 2\n", "\n", "test.txt holds no held-out item; a row is a user"),
        ("0 1 5\n1 1 2\n\n0 2 4\n", "0 3\n", "train.txt, line 4: this user has a line already; put all items of a u"),
        ("0 1 5\n1 1 2\n\n0 2 4\n", "0 3\n", "the line is '0 2 4'"),
        (f"0 1\n1 {'x' * 1025}\n", "0 3\n", "train.txt, line 2: the item has more than 1,024 characters; shorten it"),
        ("0 1 2\n", "0 3\n", "holds one user only"),
    ],
)
def test_a_bad_folder_is_refused_with_its_reason(tmp_path: Path, train: str, test: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_split(folder_of(tmp_path, train, test))
    assert message in str(caught.value)


@pytest.mark.parametrize("first", ["0\t1\t5", "0,1,5", "0;1", "1::1193::5::978300760"])
def test_other_formats_are_not_taken_for_it(tmp_path: Path, first: str) -> None:
    assert is_adjacency(folder_of(tmp_path))
    assert not is_adjacency(folder_of(tmp_path, f"\n{first}\n1 2\n"))


def test_it_takes_both_files_and_none_of_the_papers(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "a.train.rating").touch()
    assert not is_adjacency(tmp_path)
    (tmp_path / "a.train.rating").unlink()
    (tmp_path / "test.txt").unlink()
    assert not is_adjacency(tmp_path)
    with pytest.raises(InputError, match=r"train.txt seems to have no header"):
        load_split(tmp_path)


def test_it_is_not_split_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of LightGCN, which has its own split: held_out = 2 cannot be applied"):
        load_split(folder_of(tmp_path), SplitOptions(held_out=2))


def test_a_model_is_trained_on_it_and_ranks_several_items_of_a_user(tmp_path: Path) -> None:
    """Of two groups of users with items of their own, three held-out items of each user are all found."""
    groups = {user: [item for item in range(40) if item % 2 == user % 2] for user in range(60)}
    held = {user: [items[(user + step) % 20] for step in (0, 7, 13)] for user, items in groups.items()}
    rows = {user: [item for item in items if item not in held[user]] for user, items in groups.items()}
    split = load_split(
        folder_of(
            tmp_path, *("".join(f"{u} {' '.join(map(str, of))}\n" for u, of in each.items()) for each in (rows, held))
        )
    )
    config = TrainConfig(model="gmf", num_factors=4, epochs=30, negatives="exact")
    result = train(split, config)
    assert result.best.ndcg_at_10 is not None  # one item of each user is cut from train for the choice
    report = figures(result.model, split)["model"]
    assert len(split.held_out) == 180
    # A user's other held-out items are no candidates, so each of the three can be first.
    assert report["full"]["HR@10"] == 1.0
    assert report["full"]["NDCG@10"] > 0.99
    assert report["sampled"]["NDCG@10"] > 0.95
    assert torch.isfinite(torch.tensor(list(report["full"].values()))).all()


GOWALLA = Path(os.environ.get("NCF_GOWALLA", Path(__file__).parents[4] / "shared" / "data" / "gowalla"))


@pytest.mark.skipif(not GOWALLA.is_dir(), reason="point NCF_GOWALLA at the folder gowalla of LightGCN's repository")
def test_gowalla_is_lightgcns() -> None:
    split = load_split(GOWALLA)
    assert (split.train.num_users, split.train.num_items) == (29_858, 40_981)
    assert (len(split.train), len(split.held_out)) == (810_128, 217_242)
