from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ncf.data.interactions import IdIndex
from ncf.data.item_columns import ItemColumn, read_items
from ncf.export.id_file import describe_columns, write_column, write_counts, write_id_file
from ncf.export.query import Query
from serve.errors import BadRequest
from serve.recommend import plan as recommend
from serve.recommend.parse import ScoreRequest, parse_request
from serve.recommend.plan import Plan, plan
from serve.recommend.recommender import Recommender

pytestmark = pytest.mark.core


@pytest.fixture
def recommender(tmp_path: Path) -> Recommender:
    """Users ann and bob; items 10, 20, 30 with 5, 9 and 0 interactions, and a kind and a price each."""
    folder = tmp_path / "m" / "4"
    folder.mkdir(parents=True)
    users, items = IdIndex.of(pl.Series(["ann", "bob"])), IdIndex.of(pl.Series([10, 20, 30]))
    write_id_file(folder / "users.ids", users)
    write_id_file(folder / "items.ids", items)
    write_counts(folder / "items.counts", pl.Series([5, 9, 0]).to_numpy())
    (tmp_path / "items.csv").write_text("item_id,kind,price\n30,soup,9.5\n10,salad,7\n20,soup,\n")
    columns = read_items(tmp_path / "items.csv", items)
    described = [{"name": column.name, "kind": column.kind} for column in columns]  # as before columns had a form
    return opened(folder, columns, described)


def opened(folder: Path, columns: list[ItemColumn], described: list[dict[str, str]]) -> Recommender:
    for number, column in enumerate(columns):
        write_column(folder, number, column)
    text = json.dumps({"query_model": "m_query", "k": 3, "columns": described})
    (folder / "recommender.json").write_text(text)
    return Recommender.open(folder.parents[1], "m", 4, {"m": 4, "m_query": 2}, ("m", "m_query"))


def planned(recommender: Recommender, **document: Any) -> Plan:
    return plan(parse_request(document, 100), recommender)


def rows(made: Plan) -> list[tuple[int, int]]:
    """The (kind, value) rows of a query, without the padding."""
    flat = made.columns["query"].tolist()
    assert len(flat) == made.shape[0] * 2
    return [pair for pair in zip(flat[::2], flat[1::2], strict=True) if pair != (0, 0)]


RANKED = {"item_index": array("q", [2, 0, -1]), "score": array("f", [1.5, 0.5, -3e38])}
VERSION = {"model_name": "m", "model_version": "4"}


def test_kinds_are_those_of_the_exported_module() -> None:
    for name in ("USER", "HISTORY", "SIMILAR", "ALLOW", "EXCLUDE", "INCLUDE_SEEN", "WHERE"):
        assert getattr(recommend, name) == getattr(Query, name)


def test_a_lone_user_is_a_query_of_one_row(recommender: Recommender) -> None:
    made = planned(recommender, user_id="bob", k=3)
    assert (made.part.model_name, made.rows, made.shape) == ("m_query", 1, (1, 2))
    assert made.columns == {"query": array("q", [recommend.USER, 1])}
    assert made.finish(RANKED) == {
        **VERSION,
        "reason": "personal",
        "recommendations": [{"item_id": 30, "score": 1.5}, {"item_id": 10, "score": 0.5}],
    }
    unknown = planned(recommender, user_id="zoe", k=1)
    assert unknown.columns == {"query": array("q", [recommend.USER, -1])}
    answer = unknown.finish(RANKED)
    assert answer["reason"] == "popular"
    assert "user_id 'zoe' is unknown to m" in answer["message"]
    assert len(answer["recommendations"]) == 1


def test_conditions_become_rows_of_a_query(recommender: Recommender) -> None:
    made = planned(recommender, user_id="bob", exclude=[10, "nix"], allow=["20", 30], exclude_seen=False)
    assert (made.part.model_name, made.rows) == ("m_query", 1)
    assert rows(made) == [
        (recommend.USER, 1),
        (recommend.EXCLUDE, 0),
        (recommend.ALLOW, 1),
        (recommend.ALLOW, 2),
        (recommend.INCLUDE_SEEN, 0),
    ]
    assert made.finish(RANKED)["unknown_items"] == ["nix"]


def test_a_list_of_unknown_items_only_still_allows_nothing_else(recommender: Recommender) -> None:
    assert rows(planned(recommender, user_id="bob", allow=["nix"])) == [(recommend.USER, 1), (recommend.ALLOW, -1)]


def test_queries_have_one_of_few_lengths(recommender: Recommender) -> None:
    lengths = {planned(recommender, user_id="bob", exclude=[10] * count).shape for count in range(100)}
    assert lengths == {(1, 2), (4, 2), (16, 2), (64, 2), (256, 2)}
    for document in ({"item_id": 30}, {"history": [20]}, {"user_id": "bob", "exclude_seen": False}):
        assert planned(recommender, **document).shape == (4, 2)  # not in one batch with lone users


def test_new_users_and_similar_items(recommender: Recommender) -> None:
    made = planned(recommender, history=["20", "nix"])
    assert rows(made) == [(recommend.HISTORY, 1)]
    answer = made.finish(RANKED)
    assert (answer["reason"], answer["unknown_items"]) == ("history", ["nix"])
    lost = planned(recommender, history=["nix"]).finish(RANKED)
    assert lost["reason"] == "popular"
    assert lost["message"].startswith("no item of the history is known to m")
    similar = planned(recommender, item_id=30)
    assert rows(similar) == [(recommend.SIMILAR, 2)]
    assert similar.finish(RANKED)["reason"] == "similar"
    assert planned(recommender, item_id=31).finish(RANKED)["unknown_items"] == [31]


def test_metadata_is_returned_and_filtered_by(recommender: Recommender) -> None:
    made = planned(recommender, user_id="ann", where={"kind": "soup", "price": 9.5}, **{"with": ["price", "kind"]})
    kind, price = recommender.columns["kind"][1], recommender.columns["price"][1]
    where = [(recommend.WHERE, kind.code("soup")), (recommend.WHERE + 1, price.code(9.5))]
    assert rows(made) == [(recommend.USER, 0), *where]
    assert made.finish(RANKED)["recommendations"] == [
        {"item_id": 30, "score": 1.5, "price": 9.5, "kind": "soup"},
        {"item_id": 10, "score": 0.5, "price": 7.0, "kind": "salad"},
    ]
    assert price.code("9.5") == price.code(9.5) >= 0
    assert price.code(7) == price.code(7.0) >= 0
    assert price.value(1) is None
    assert rows(planned(recommender, user_id="ann", where={"price": None}))[1] == (recommend.WHERE + 1, -1)
    for nobodys in ("stew", 9.5, True):
        made = planned(recommender, user_id="ann", where={"kind": nobodys})
        assert rows(made)[1] == (recommend.WHERE, -2)
        assert made.finish(RANKED)["message"].startswith("no item has ")


def test_columns_of_several_values_come_last_in_a_query(recommender: Recommender, tmp_path: Path) -> None:
    """The fixture's version is exported again, with four columns."""
    table = pl.DataFrame(
        {
            "item_id": [30, 10, 20],
            "tags": [["hot", "thick"], [], ["hot"]],
            "kind": ["soup", "salad", "soup"],
            "made": ["oven|pan", "bowl", None],
            "price": [9.5, 7, None],
        }
    )
    table.write_parquet(tmp_path / "items.parquet")
    columns = read_items(tmp_path / "items.parquet", IdIndex.of(pl.Series([10, 20, 30])))
    recommender = opened(tmp_path / "m" / "4", columns, describe_columns(columns))
    made = planned(
        recommender,
        user_id="ann",
        where={"made": "pan", "tags": "hot", "price": 7, "kind": "soup"},
        **{"with": ["tags", "made", "kind"]},
    )
    numbers = {name: number for name, (number, _) in recommender.columns.items()}
    assert numbers == {"kind": 0, "price": 1, "tags": 2, "made": 3}
    assert [kind - recommend.WHERE for kind, _ in rows(made)[1:]] == [3, 2, 1, 0]
    assert made.finish(RANKED)["recommendations"] == [
        {"item_id": 30, "score": 1.5, "tags": ["hot", "thick"], "made": "oven|pan", "kind": "soup"},
        {"item_id": 10, "score": 0.5, "tags": [], "made": "bowl", "kind": "salad"},
    ]
    assert rows(planned(recommender, user_id="ann", where={"tags": None}))[1] == (recommend.WHERE + 2, -1)
    made = planned(recommender, user_id="ann", where={"tags": "cold"})
    assert rows(made)[1] == (recommend.WHERE + 2, -2)
    assert made.finish(RANKED)["message"] == "no item has 'cold' in 'tags'"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"user_id": "ann", "k": 4}, "k is 4; m returns at most 3 (`ncf export --k`)"),
        ({"user_id": "ann", "k": 10**9}, "k is 1000000000; m returns at most 3"),
        ({"user_id": "ann", "where": {"knd": 1}}, "where names 'knd', which m has no column for; did you mean 'kind'?"),
        ({"user_id": "ann", "with": ["colour"]}, "names 'colour', which m has no column for; its columns: kind, price"),
        ({"user_id": "ann", "candidates": [10], "with": ["x"]}, "with names 'x'"),
    ],
)
def test_what_the_models_cannot_give_is_refused(recommender: Recommender, document: Any, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        planned(recommender, **document)
    assert message in str(caught.value)


def test_fewer_items_than_the_usual_ten_are_no_mistake(recommender: Recommender) -> None:
    planned(recommender, user_id="ann")


def test_candidates_are_ranked_and_unknown_ones_come_last(recommender: Recommender) -> None:
    made = planned(recommender, user_id="ann", candidates=["nix", 30, "10", "nax"])
    assert (made.part.model_name, made.rows) == ("m", 2)
    assert made.columns == {"user_index": array("q", [0, 0]), "item_index": array("q", [2, 0])}
    answer = made.finish({"score": array("f", [0.5, 1.5])})
    assert answer == {
        **VERSION,
        "reason": "personal",
        "recommendations": [
            {"item_id": 10, "score": 1.5},
            {"item_id": 30, "score": 0.5},
            {"item_id": "nix"},
            {"item_id": "nax"},
        ],
        "unknown_items": ["nix", "nax"],
    }
    popular = planned(recommender, user_id="zoe", candidates=[10, 20, "nix", 30], k=3)
    assert popular.rows == 0
    answer = popular.finish({"score": array("f")})
    assert answer["reason"] == "popular"
    assert [(one["item_id"], one["score"]) for one in answer["recommendations"]] == [(20, 9.0), (10, 5.0), (30, 0.0)]


def test_scores_keep_their_order_and_say_why_one_is_missing(recommender: Recommender) -> None:
    pairs = {"user_id": ["ann", "zoe", "bob", "bob"], "item_id": [10, 10, "20", 99]}
    made = planned(recommender, pairs=pairs)
    assert made.columns == {"user_index": array("q", [0, 1]), "item_index": array("q", [0, 1])}
    answer = made.finish({"score": array("f", [0.5, 1.5])})
    assert answer["scores"] == [0.5, None, 1.5, None]
    assert answer["unknown"] == [
        {"row": 1, "message": "user_id 'zoe' is unknown"},
        {"row": 3, "message": "item_id 99 is unknown"},
    ]


def test_indices_outside_the_data_are_unknown(recommender: Recommender) -> None:
    made = plan(ScoreRequest(array("q", [0, 2, -1]), array("q", [2, 0, 0])), recommender)
    assert made.columns == {"user_index": array("q", [0]), "item_index": array("q", [2])}
    assert made.finish({"score": array("f", [0.25])})["scores"] == [0.25, None, None]
