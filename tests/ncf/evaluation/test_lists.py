from __future__ import annotations

import os
from math import log2
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, roc_auc_score

from ncf.data.load import load_split
from ncf.data.splits import HeldOut
from ncf.evaluation.lists import Lists
from ncf.evaluation.metrics import means
from ncf.evaluation.ranking import Ranks, full_ranks
from ncf.models.scorers import Factors, Popularity
from ncf.models.seen import SeenItems, known_items
from tests.ncf.evaluation.test_ranking import CPU

pytestmark = pytest.mark.core

NUM_USERS, NUM_ITEMS = 50, 70
GOWALLA = Path(os.environ.get("NCF_GOWALLA", Path(__file__).parents[4] / "shared" / "data" / "gowalla"))


def ranks(user: list[int], rank: list[int], rivals: int = 100) -> Ranks:
    users = torch.tensor(user)
    return Ranks(users, torch.arange(len(user)), torch.tensor(rank), torch.full_like(users, rivals))


def test_places_count_the_users_other_held_out_items() -> None:
    """Rows of two users in any order. Of user 5, one item is first, and two tie behind three other items."""
    lists = Lists.of(ranks([5, 2, 5, 5, 2], [3, 8, 0, 3, 7]))
    assert lists.place.tolist() == [4, 9, 0, 5, 7]
    assert lists.users.tolist() == [2, 5]


def test_every_metric_by_hand() -> None:
    """User 2 has its two items at places 8 and 10 (from 1), user 5 its three at 1, 5 and 6, of 102 and 103 items."""
    lists = Lists.of(ranks([5, 2, 5, 5, 2], [3, 8, 0, 3, 7]))
    at = {name: value.tolist() for name, value in lists.at(5).items()}
    assert at["Recall"] == pytest.approx([0, 2 / 3])
    assert at["Precision"] == pytest.approx([0, 2 / 5])
    assert at["HR"] == [0, 1]
    ideal = 1 + 1 / log2(3) + 1 / log2(4)
    assert at["NDCG"] == pytest.approx([0, (1 + 1 / log2(6)) / ideal])
    assert at["MAP"] == pytest.approx([0, (1 / 1 + 2 / 5) / 3])
    assert lists.at(1)["MAP"].tolist() == pytest.approx([0, 1])  # the best that one place allows
    assert lists.at(1)["NDCG"].tolist() == pytest.approx([0, 1])
    values = lists.values()
    assert values["MRR"].tolist() == pytest.approx([1 / 8, 1])
    assert values["AUC"].tolist() == pytest.approx([1 - (8 + 7) / 200, 1 - (3 + 0 + 3) / 300])
    assert lists.curves()["Recall"]["5"] == pytest.approx(1 / 3)


def test_of_some_items_only_these_are_relevant_and_places_stay() -> None:
    """Without its first item, user 5 has places 5 and 6; user 2 has no relevant item and does not count."""
    lists = Lists.of(ranks([5, 2, 5, 5, 2], [3, 8, 0, 3, 7])).rows(torch.tensor([True, False, False, True, False]))
    assert lists.users.tolist() == [5]
    assert lists.at(5)["Recall"].tolist() == [1 / 2]
    assert lists.at(10)["MAP"].tolist() == pytest.approx([(1 / 5 + 2 / 6) / 2])
    assert lists.values()["MRR"].tolist() == pytest.approx([1 / 5])


def test_scikit_learn_agrees() -> None:
    """From scores of users against all items, with seen items and several held-out items of a user."""
    random = np.random.default_rng(0)
    users, items = (torch.from_numpy(random.normal(size=(n, 6)).astype(np.float32)) for n in (NUM_USERS, NUM_ITEMS))
    kind = np.array([random.permutation(NUM_ITEMS) for _ in range(NUM_USERS)])
    held_out = [row[: random.integers(1, 30)] for row in kind]
    seen = [row[-random.integers(1, 30) :] for row in kind]
    user, item = (
        np.concatenate(each)
        for each in (np.repeat(range(NUM_USERS), list(map(len, held_out))).reshape(1, -1), held_out)
    )
    shuffled = random.permutation(len(user))
    known = SeenItems.of(np.repeat(range(NUM_USERS), list(map(len, seen))), np.concatenate(seen), NUM_USERS, NUM_ITEMS)
    lists = Lists.of(full_ranks(Factors(users, items), HeldOut(user[shuffled], item[shuffled]), known))

    score, found = (users @ items.t()).numpy(), lists.values()
    at = {k: lists.at(k) for k in (1, 10, 20, NUM_ITEMS)}
    for number in range(NUM_USERS):
        unseen = np.setdiff1d(np.arange(NUM_ITEMS), seen[number])
        relevant, mine = np.isin(unseen, held_out[number]), score[number, unseen]
        for k in (1, 10, 20):
            first = relevant[np.argsort(-mine)[:k]]
            assert at[k]["NDCG"][number] == pytest.approx(ndcg_score([relevant], [mine], k=k))
            assert at[k]["Recall"][number] == pytest.approx(first.sum() / relevant.sum())
            assert at[k]["Precision"][number] == pytest.approx(first.sum() / k)
            assert at[k]["HR"][number] == first.any()
        precision = label_ranking_average_precision_score([relevant], [mine])
        assert at[NUM_ITEMS]["MAP"][number] == pytest.approx(precision)
        assert found["AUC"][number] == pytest.approx(roc_auc_score(relevant, mine))
        assert found["MRR"][number] == pytest.approx(1 / (1 + np.argmax(relevant[np.argsort(-mine)])))


@pytest.mark.skipif(not GOWALLA.is_dir(), reason="point NCF_GOWALLA at the folder gowalla of LightGCN's repository")
def test_popularity_on_gowalla_has_the_published_figures() -> None:
    """Recall@20 .0416 and NDCG@20 .0317 in public tables of LightGCN's split."""
    split = load_split(GOWALLA)
    scorer = Popularity(torch.as_tensor(split.train.popularity()))
    found = means(Lists.of(full_ranks(scorer, split.held_out, known_items(split, CPU))).values())
    assert round(found["Recall@20"], 4) == 0.0416
    assert round(found["NDCG@20"], 4) == 0.0317
