from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

from ncf.data.interactions import IdIndex, Interactions
from ncf.data.splits import HeldOut, Split
from ncf.evaluation.comparison import compare, evaluate
from ncf.evaluation.metrics import gains
from ncf.evaluation.ranking import rank_held_out
from ncf.models.neural import build_model
from tests.ncf.evaluation.test_ranking import CPU, popularity, small_split


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
    assert list(report) == ["model", "popularity", "ease", "ials"]


def test_ranks_of_several_scorers_have_the_same_rows_and_make_the_report() -> None:
    torch.manual_seed(0)
    split, model = small_split(), build_model("gmf", 3, 5, 4).eval()
    heard: list[str] = []
    ranks = rank_held_out({"a": model, "b": popularity(split)}, split, CPU, seed=4, say=heard.append)
    assert heard == ["ranking: a", "ranking: b"]
    for protocol in ("sampled", "full"):
        assert torch.equal(ranks["a"][protocol].user_index, ranks["b"][protocol].user_index)
        assert torch.equal(ranks["a"][protocol].item_index, ranks["b"][protocol].item_index)
    report = evaluate(model, split, seed=4)
    assert report["model"] == {way: found.summary() for way, found in ranks["a"].items()}
    assert report["popularity"]["full"] == ranks["b"]["full"].summary()


def test_details_agree_with_the_summary() -> None:
    """With several held-out rows of one user: figures are means over rows, margins means over users."""
    torch.manual_seed(0)
    num_users, num_items = 6, 40
    pairs = np.array([(user, item) for user in range(num_users) for item in range(user, num_items, 7)])
    users, items = (IdIndex.of(pl.Series(range(n))) for n in (num_users, num_items))
    rows = [(user, item) for user in range(num_users) for item in range(user + 1, num_items, 7)][: 4 * num_users]
    rows = [row for number, row in enumerate(rows) if row[0] < 2 or number % 5 == 0]  # users 0 and 1 have many
    held = HeldOut(*(np.array(index) for index in zip(*rows, strict=True)))
    split = Split(Interactions(users, items, pairs[:, 0], pairs[:, 1]), held)
    per_user = np.bincount(held.user_index)
    assert len(set(per_user[per_user > 0])) > 1  # else means over rows and over users are the same
    comparison = compare(build_model("gmf", num_users, num_items, 4), split)
    report, details = comparison.report(), json.loads(json.dumps(comparison.details()))
    assert set(details["margins"]) == {"popularity", "ease", "ials"}

    def mean_over_users(name: str, way: str) -> float:
        gain = gains(comparison.ranks[name][way].rank, 10).numpy()
        return float(np.mean([gain[held.user_index == user].mean() for user in np.unique(held.user_index)]))

    for name, ways in report.items():
        for way, figures in ways.items():
            assert details["by_k"][name][way]["HR"]["10"] == figures["HR@10"]
            assert details["by_k"][name][way]["HR"]["20"] == figures["HR@20"]
            assert details["by_k"][name][way]["NDCG"]["10"] == figures["NDCG@10"]
            for groups in (details["by_user_activity"][name][way], details["by_item_popularity"][name][way]):
                assert sum(group["held_out"] for group in groups) == len(held)
                mean = sum(group["held_out"] * group["NDCG@10"] for group in groups) / len(held)
                assert mean == pytest.approx(figures["NDCG@10"])
            if name != "model":
                margin = details["margins"][name][way]["NDCG@10"]["difference"]
                assert margin == pytest.approx(mean_over_users("model", way) - mean_over_users(name, way))
    margins = [details["margins"][name]["full"]["NDCG@10"]["difference"] for name in ("popularity", "ease", "ials")]
    over_rows = [
        report["model"]["full"]["NDCG@10"] - report[name]["full"]["NDCG@10"] for name in ("popularity", "ease", "ials")
    ]
    assert margins != pytest.approx(over_rows)  # the data tell the two means apart
    assert 0 < details["coverage"]["model"] <= 1


def test_nobody_with_a_negative_leaves_the_sampled_protocol_empty() -> None:
    pairs = np.array([(0, 0), (1, 1)])
    users, items = (IdIndex.of(pl.Series(range(n))) for n in (2, 2))
    split = Split(Interactions(users, items, pairs[:, 0], pairs[:, 1]), HeldOut(np.array([0, 1]), np.array([1, 0])))
    comparison = compare(build_model("gmf", 2, 2, 4), split)
    assert comparison.report()["model"]["sampled"] == {}
    assert comparison.report()["model"]["full"]["HR@10"] == 1.0
    assert set(comparison.details()["margins"]["ease"]) == {"full"}
