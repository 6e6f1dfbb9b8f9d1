from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

from ncf.commands.tables import print_tables
from ncf.data.interactions import IdIndex, Interactions
from ncf.data.splits import HeldOut, Split
from ncf.evaluation.comparison import compare
from ncf.evaluation.page import page
from ncf.evaluation.ranking import rank_held_out
from ncf.models.neural import build_model
from tests.ncf.evaluation.test_ranking import CPU, popularity, small_split


def test_both_protocols_agree_with_a_slow_reading() -> None:
    torch.manual_seed(0)
    split = small_split()
    model = build_model("neumf", 3, 5, 4).eval()
    report = compare(model, split, split.train).report()
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
    report = compare(model, split, split.train, seed=4).report()
    assert {way: report["model"][way] for way in ranks["a"]} == {
        way: each.summary() for way, each in ranks["a"].items()
    }
    assert report["popularity"]["full"] == ranks["b"]["full"].summary()


def test_details_agree_with_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    """With several held-out rows of one user: figures and margins are means over rows."""
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
    comparison = compare(build_model("gmf", num_users, num_items, 4), split, split.train)
    report, details = comparison.report(), json.loads(json.dumps(comparison.details()))
    assert set(details["margins"]) == {"popularity", "ease", "ials"}

    for name, ways in report.items():
        for way, figures in ways.items():
            groups = [details[each][name][way] for each in ("by_user_activity", "by_item_popularity")]
            if name != "model":
                for metric, margin in details["margins"][name][way].items():
                    lead = report["model"][way][metric] - figures[metric]
                    assert margin["difference"] == pytest.approx(lead, abs=1e-12)
            if way == "lists":
                assert details["by_k"][name][way]["Recall"]["20"] == figures["Recall@20"]
                mean = sum(group["users"] * group["diversity"] for group in groups[0]) / len(set(held.user_index))
                assert mean == pytest.approx(figures["diversity"])
                assert all(set(group) > {"from", "to", "users", "Recall@20", "NDCG@20", "AUC"} for group in groups[1])
                continue
            assert details["by_k"][name][way]["HR"]["10"] == figures["HR@10"]
            assert details["by_k"][name][way]["HR"]["20"] == figures["HR@20"]
            assert details["by_k"][name][way]["NDCG"]["10"] == figures["NDCG@10"]
            for each in groups:
                assert sum(group["held_out"] for group in each) == len(held)
                for metric in figures:
                    mean = sum(group["held_out"] * group[metric] for group in each) / len(held)
                    assert mean == pytest.approx(figures[metric])
    assert list(report["model"]["full"]) == ["HR@10", "NDCG@10", "MRR", "HR@20", "AUC"]
    assert 0 < report["model"]["lists"]["coverage"] <= 1
    document = comparison.document("gmf")
    print_tables(document)
    assert "all held-out items of a user in one list" in capsys.readouterr().out
    html = page(document, [], {"data": "d.csv"}, {})
    assert all(
        word in html for word in ("All held-out items of a user in one list", "Lists of users: NDCG@20", "MAP@20")
    )


def test_for_one_held_out_item_a_user_lists_say_what_full_says() -> None:
    torch.manual_seed(0)
    split = small_split()
    for ways in compare(build_model("gmf", 3, 5, 4), split, split.train).report().values():
        full, lists = ways["full"], ways["lists"]
        assert {name: lists[name] for name in full} == pytest.approx(full)
        assert lists["Recall@10"] == lists["HR@10"]
        assert lists["Precision@10"] == pytest.approx(lists["HR@10"] / 10)


def test_the_table_has_a_row_for_each_scorer_and_protocol() -> None:
    split = small_split()
    comparison = compare(build_model("gmf", 3, 5, 4), split, split.train)
    table = comparison.table()
    assert table.shape[0] == 4 * 3
    row = table.row(by_predicate=(pl.col("scorer") == "ials") & (pl.col("protocol") == "lists"), named=True)
    assert {name: row[name] for name in comparison.report()["ials"]["lists"]} == comparison.report()["ials"]["lists"]
    assert table.filter(pl.col("protocol") == "full")["diversity"].null_count() == 4


def test_nobody_with_a_negative_leaves_both_protocols_empty() -> None:
    pairs = np.array([(0, 0), (1, 1)])
    users, items = (IdIndex.of(pl.Series(range(n))) for n in (2, 2))
    split = Split(Interactions(users, items, pairs[:, 0], pairs[:, 1]), HeldOut(np.array([0, 1]), np.array([1, 0])))
    comparison = compare(build_model("gmf", 2, 2, 4), split, split.train)
    assert comparison.report()["model"] == {"sampled": {}, "full": {}, "lists": {}}
    document = comparison.document("gmf")
    assert document["held_out"] == document["users"] == 0
    assert document["margins"]["ease"] == {}
    print_tables(document)
    assert page(document, [], {"data": "d.csv"}, {}).startswith("<!doctype html>")
