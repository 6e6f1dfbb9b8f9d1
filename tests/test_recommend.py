from __future__ import annotations

from array import array
from pathlib import Path

import polars as pl
import pytest

from ncf.id_file import write_id_file
from ncf.interactions import IdIndex
from serve import recommend
from serve.errors import BadRequest
from serve.ids import IdFile
from serve.recommend import RecommendRequest, ScoreRequest, parse_request
from serve.repository import Recommender


@pytest.fixture
def recommender(tmp_path: Path) -> Recommender:
    for name, raw in (("users", ["ann", "bob"]), ("items", [10, 20, 30])):
        write_id_file(tmp_path / f"{name}.ids", IdIndex.of(pl.Series(raw)))
    return Recommender("m", "4", "m_topk", 3, 5, IdFile(tmp_path / "users.ids"), IdFile(tmp_path / "items.ids"))


def test_requests_are_read() -> None:
    assert parse_request({"user_id": "u", "model": "m"}) == RecommendRequest("u", None)
    assert parse_request({"user_id": 7, "k": 3}) == RecommendRequest(7, 3)
    assert parse_request({"pairs": [{"user_id": 1, "item_id": "x"}]}) == ScoreRequest(((1, "x"),))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], "the body is a JSON list"),
        ("x", "the body is a JSON text"),
        (None, "the body is a JSON null"),
        ({}, "asks for nothing"),
        ({"model": "m"}, "asks for nothing"),
        ({"user_id": "u", "k": 0}, "k is 0; it must be a whole number of at least 1"),
        ({"user_id": "u", "k": -3}, "k is -3;"),
        ({"user_id": "u", "k": None}, "k is None;"),
        ({"user_id": "u", "k": 2.5}, "k is 2.5;"),
        ({"user_id": "u", "k": "5"}, "k is '5';"),
        ({"user_id": "u", "k": True}, "k is True;"),
        ({"user_id": None}, "user_id is None; an id is a text or a whole number"),
        ({"user_id": 1.5}, "user_id is 1.5;"),
        ({"user_id": True}, "user_id is True;"),
        ({"user_id": ["u"]}, "user_id is a list;"),
        ({"user_id": "u", "topk": 3}, "field 'topk' is unknown"),
        ({"user": "u"}, "field 'user' is unknown; did you mean 'user_id'?"),
        ({"user_id": "u", "kk": 3}, "did you mean 'k'?"),
        ({"pairs": []}, "pairs must be a list"),
        ({"pairs": {"user_id": "u"}}, "pairs must be a list"),
        ({"pairs": [{"user_id": "u"}]}, "pairs[0] is an object; it needs user_id and item_id"),
        ({"pairs": [{"user_id": "u", "item_id": 1}, 5]}, "pairs[1] is 5;"),
        ({"pairs": [["u", "i"]]}, "pairs[0] is"),
        ({"pairs": [{"user_id": "u", "item_id": None}]}, "pairs[0].item_id is None;"),
        ({"pairs": [{"user_id": "u", "item_id": 1, "items": 2}]}, "field 'pairs[0].items' is unknown"),
        ({"pairs": [{"user_id": "u", "item_id": 1}], "user_id": "u"}, "field 'user_id' is unknown"),
    ],
)
def test_a_bad_request_names_field_value_and_remedy(document: object, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_request(document)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_request({"user_id": ["x" * 10_000]})
    assert len(str(caught.value)) < 200


def test_k_beyond_what_is_served(recommender: Recommender) -> None:
    recommend.check_size(RecommendRequest("ann", 3), recommender)
    recommend.check_size(RecommendRequest("ann"), recommender)  # fewer than the usual ten are no mistake
    with pytest.raises(BadRequest, match="k is 4; m knows 3 items"):
        recommend.check_size(RecommendRequest("ann", 4), recommender)
    smaller = Recommender("m", "4", "m_topk", 2, 5, recommender.users, recommender.items)
    with pytest.raises(BadRequest, match="returns at most 2"):
        recommend.check_size(RecommendRequest("ann", 3), smaller)
    with pytest.raises(BadRequest, match="holds 6 pairs; m takes at most 5"):
        recommend.check_size(ScoreRequest((("ann", 10),) * 6), recommender)


def test_recommendations_are_raw_ids_without_empty_places(recommender: Recommender) -> None:
    outputs = {"item_index": array("q", [2, 0, -1]), "score": array("f", [1.5, 0.5, -3e38])}
    answer = recommend.recommendations(RecommendRequest("bob", 3), recommender, True, outputs)
    assert answer == {
        "model_name": "m",
        "model_version": "4",
        "reason": "personal",
        "recommendations": [{"item_id": 30, "score": 1.5}, {"item_id": 10, "score": 0.5}],
    }
    popular = recommend.recommendations(RecommendRequest("zoe", 1), recommender, False, outputs)
    assert popular["reason"] == "popular"
    assert "user_id 'zoe' is unknown to m" in popular["message"]
    assert len(popular["recommendations"]) == 1


def test_scores_keep_their_order_and_say_why_one_is_missing(recommender: Recommender) -> None:
    request = ScoreRequest((("ann", 10), ("zoe", 10), ("bob", "20"), ("bob", 99)))
    columns = recommend.pair_columns(request, recommender)
    assert columns.user_index.tolist() == [0, 1]
    assert columns.item_index.tolist() == [0, 1]
    answer = recommend.scores(request, recommender, columns, array("f", [0.5, 1.5]))
    assert answer["scores"] == [0.5, None, 1.5, None]
    assert answer["unknown"] == [
        {"row": 1, "message": "user_id 'zoe' is unknown"},
        {"row": 3, "message": "item_id 99 is unknown"},
    ]
