from __future__ import annotations

import numpy as np
import polars as pl
import torch

from ncf.evaluate import Candidates, Popularity, evaluate, evaluate_full, evaluate_sampled
from ncf.interactions import IdIndex, Interactions
from ncf.models import build_model
from ncf.negatives import SeenItems
from ncf.splits import HeldOut, Split

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


def test_sampled_protocol_masks_the_positive_among_its_negatives_and_padding() -> None:
    split = small_split([[2, 0], [0, 1], [-1, 4]])
    report = evaluate_sampled(popularity(split), Candidates.of(split.held_out, split, CPU, 0))
    # user 0: its own item is masked, 0 is ahead: rank 1; user 1: both ahead: rank 2; user 2: padding, 4 is behind: 0
    assert report["MRR"] == (1 / 2 + 1 / 3 + 1) / 3


def test_drawn_negatives_are_neither_seen_nor_held_out() -> None:
    split = small_split()
    candidates = Candidates.of(split.held_out, split, CPU, seed=3)
    assert candidates.negatives.shape == (3, 99)
    allowed = [{3, 4}, {2, 4}, {3, 4}]
    for row, items in zip(candidates.negatives.tolist(), allowed, strict=True):
        assert set(row) == items


def test_a_user_without_any_negative_is_left_out_of_the_sampled_protocol() -> None:
    pairs = np.array([(0, 0), (0, 1), (1, 0)])
    users, items = (IdIndex.of(pl.Series(range(n))) for n in (2, 3))
    held = HeldOut(np.array([0, 1]), np.array([2, 1]))
    split = Split(Interactions(users, items, pairs[:, 0], pairs[:, 1]), held)
    assert Candidates.of(held, split, CPU, 0).user_index.tolist() == [1]


def test_both_protocols_agree_with_a_slow_reading() -> None:
    torch.manual_seed(0)
    split = small_split()
    model = build_model("neumf", 3, 5, 4).eval()
    report = evaluate(model, split)
    ranks = []
    for user, item in zip(split.held_out.user_index, split.held_out.item_index, strict=True):
        seen = split.train.item_index[split.train.user_index == user]
        mine = model(torch.tensor([user]), torch.tensor([item])).item()
        others = [i for i in range(5) if i != item and i not in seen]
        ranks.append(sum(model(torch.tensor([user]), torch.tensor([i])).item() >= mine for i in others))
    assert abs(report["model"]["full"]["MRR"] - np.mean([1 / (rank + 1) for rank in ranks])) < 1e-12
    assert set(report) == {"model", "popularity"}
