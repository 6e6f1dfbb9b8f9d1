from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.splits import HeldOut, Split
from ncf.evaluation import ranking as module
from ncf.evaluation.ranking import Candidates, evaluate_full, evaluate_sampled, full_ranks, rank_held_out
from ncf.models.neural import build_model
from ncf.models.scorers import Popularity
from ncf.models.seen import SeenItems, known_items

pytestmark = pytest.mark.core

CPU = torch.device("cpu")


def small_split(negatives: list[list[int]] | None = None) -> Split:
    """Three users, five items; item counts in train: 0 → 3, 1 → 2, 2 → 1."""
    pairs = np.array([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 2)])
    users, items = (IdIndex.of(pl.Series(range(n))) for n in (3, 5))
    held = HeldOut(np.array([0, 1, 2]), np.array([2, 3, 1]), None if negatives is None else np.array(negatives))
    return Split(Interactions(users, items, pairs[:, 0], pairs[:, 1]), held)


def popularity(split: Split) -> Popularity:
    return Popularity(torch.as_tensor(split.train.popularity()))


def test_full_catalogue_by_hand() -> None:
    """User 0: item 2 (count 1) among 3, 4 (0): rank 0. User 1: item 3 (0) ties with 4 and loses to 2: rank 2.
    User 2: item 1 (count 2) among 3, 4: rank 0."""
    split = small_split()
    seen = SeenItems.of(split.train.user_index, split.train.item_index, 3, 5)
    report = evaluate_full(popularity(split), split.held_out, seen)
    assert report["MRR"] == (1 + 1 / 3 + 1) / 3
    assert report["HR@10"] == 1.0
    assert report["AUC"] == (1 + (1 - 2 / 2) + 1) / 3


def test_sampled_protocol_masks_the_positive_among_its_negatives_and_padding() -> None:
    split = small_split([[2, 0], [0, 1], [-1, 4]])
    report = evaluate_sampled(popularity(split), Candidates.of(split.held_out, split, CPU, 0))
    # user 0: its own item is masked, 0 is ahead: rank 1; user 1: both ahead: rank 2; user 2: padding, 4 is behind: 0
    assert report["MRR"] == (1 / 2 + 1 / 3 + 1) / 3
    assert report["AUC"] == ((1 - 1 / 1) + (1 - 2 / 2) + 1) / 3


def drawn(candidates: Candidates) -> list[list[int]]:
    """The negatives of each row that count."""
    rows = zip(candidates.negatives, candidates.excluded, strict=True)
    return [sorted(negatives[~excluded].tolist()) for negatives, excluded in rows]


def random_split(num_users: int, num_items: int, seed: int = 0) -> Split:
    """Every user has 3 random items, of which the first is held out."""
    random = np.random.default_rng(seed)
    chosen = np.array([random.choice(num_items, 3, replace=False) for _ in range(num_users)])
    users, items = (IdIndex.of(pl.Series(range(n))) for n in (num_users, num_items))
    train = Interactions(users, items, np.repeat(np.arange(num_users), 2), chosen[:, 1:].ravel())
    return Split(train, HeldOut(np.arange(num_users), chosen[:, 0]))


def test_drawn_negatives_are_neither_seen_nor_held_out() -> None:
    split = small_split()
    assert drawn(Candidates.of(split.held_out, split, CPU, seed=3)) == [[3, 4], [2, 4], [3, 4]]


@pytest.mark.parametrize("num_items", [13, 101, 102, 103, 104, 150, 300, 4000])
def test_negatives_are_99_different_unseen_items_or_all_of_them(num_items: int) -> None:
    split = random_split(20, num_items)
    known = known_items(split, CPU).including(split.held_out.user_index, split.held_out.item_index)
    rows = drawn(Candidates.of(split.held_out, split, CPU, 0))
    assert len(rows) == 20
    for user, row in enumerate(rows):
        assert len(set(row)) == len(row) == min(99, num_items - 3)
        assert not set(row) & set(known.items[known.indptr[user] : known.indptr[user + 1]].tolist())
        assert row[0] >= 0
        assert row[-1] < num_items


@pytest.mark.parametrize("num_items", [13, 80, 102])
def test_with_at_most_99_unseen_items_both_protocols_are_the_same(num_items: int) -> None:
    """Also with several held-out items of a user, and with users who have no other item: neither has their rows."""
    split = random_split(40, num_items)
    everything = np.setdiff1d(np.arange(num_items), split.held_out.item_index[0])
    user = np.append(split.train.user_index, np.zeros(num_items - 1, int))
    train = Interactions(split.train.users, split.train.items, user, np.append(split.train.item_index, everything))
    several = np.append(split.held_out.user_index, 1), np.append(split.held_out.item_index, num_items - 1)
    split = Split(train, HeldOut(*several))
    torch.manual_seed(0)
    scorer = build_model("gmf", 40, num_items, 4).eval()
    ranks = rank_held_out({"it": scorer}, split, CPU)["it"]
    assert ranks["sampled"].user_index.tolist() == ranks["full"].user_index.tolist() == [*range(1, 40), 1]
    assert ranks["sampled"].rank.tolist() == ranks["full"].rank.tolist()
    assert ranks["sampled"].summary() == ranks["full"].summary()


def test_a_user_without_any_negative_is_left_out() -> None:
    pairs = np.array([(0, 0), (0, 1), (1, 0)])
    users, items = (IdIndex.of(pl.Series(range(n))) for n in (2, 3))
    held = HeldOut(np.array([0, 1]), np.array([2, 1]))
    split = Split(Interactions(users, items, pairs[:, 0], pairs[:, 1]), held)
    assert Candidates.of(held, split, CPU, 0).user_index.tolist() == [1]
    ranks = full_ranks(popularity(split), held, known_items(split, CPU))
    assert ranks.user_index.tolist() == [1]
    assert ranks.top is not None
    assert len(ranks.top) == 1


def test_other_held_out_items_of_a_user_are_no_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """By popularity user 0 has 2 (count 1) before 3 and 4 (0): 3 ties with 4 only, as 2 is held out as well."""
    split = small_split()
    held = HeldOut(np.array([0, 1, 0, 2]), np.array([2, 3, 3, 1]))
    for at_once in (2**24, 5):
        monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once)
        ranks = full_ranks(popularity(split), held, known_items(split, CPU))
        assert ranks.user_index.tolist() == [0, 1, 0, 2]
        assert ranks.rank.tolist() == [0, 2, 1, 0]
    several = Split(split.train, held)
    assert drawn(Candidates.of(held, several, CPU, 0)) == [[4], [2, 4], [4], [3, 4]]


def test_the_validation_of_the_data_is_no_candidate_either() -> None:
    split = small_split()
    with_validation = Split(split.train, split.held_out, HeldOut(np.array([1]), np.array([2])))
    assert full_ranks(popularity(split), split.held_out, known_items(with_validation, CPU)).rank.tolist() == [0, 1, 0]


def test_what_each_user_is_shown_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """One item each: 2 for users 0 and 1, 1 for user 2."""
    split = small_split()
    monkeypatch.setattr(module, "RECOMMENDED", 1)
    top = full_ranks(popularity(split), split.held_out, known_items(split, CPU)).top
    assert top is not None
    assert top.tolist() == [[2], [2], [1]]
    monkeypatch.setattr(module, "RECOMMENDED", 10)  # more than there are: what is seen does not count
    top = full_ranks(popularity(split), split.held_out, known_items(split, CPU)).top
    assert top is not None
    assert [sorted(items) for items in top.tolist()] == [[-1, -1, 2, 3, 4], [-1, -1, 2, 3, 4], [-1, -1, 1, 3, 4]]
