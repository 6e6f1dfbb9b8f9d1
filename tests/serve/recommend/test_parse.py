from __future__ import annotations

import pytest

from serve.errors import BadRequest
from serve.recommend.asks import ASKS, FIELDS
from serve.recommend.parse import CandidatesRequest, RankRequest, ScoreRequest, parse_request

pytestmark = pytest.mark.core

MOST = 20


def test_requests_are_read() -> None:
    assert parse_request({"user_id": "u"}, MOST) == RankRequest(user_id="u")
    assert parse_request({"user_id": 7, "k": 3}, MOST) == RankRequest(user_id=7, k=3)
    assert repr(parse_request({"user_id": 7.0, "k": 3.0, "allow": [1.0]}, MOST)) == repr(
        RankRequest(user_id=7, k=3, allow=(1,))
    )
    assert parse_request({"history": ["a", 2], "with": ["title", "title"]}, MOST) == RankRequest(
        history=("a", 2), columns=("title",)
    )
    assert parse_request({"item_id": "a", "where": {"c": None, "d": 2.5}, "exclude": []}, MOST) == RankRequest(
        item_id="a", where=(("c", None), ("d", 2.5))
    )
    assert parse_request({"user_id": "u", "allow": ["a"], "exclude_seen": False}, MOST) == RankRequest(
        user_id="u", allow=("a",), exclude_seen=False
    )
    assert parse_request({"user_id": "u", "candidates": ["a", "b"]}, MOST) == CandidatesRequest("u", ("a", "b"))


@pytest.mark.parametrize(
    "document",
    [
        {"pairs": [{"user_id": 1, "item_id": "x"}, {"user_id": 2, "item_id": "y"}]},
        {"pairs": [{"user_id": 1.0, "item_id": "x"}, [2.0, "y"]]},
        {"pairs": {"user_id": [1.0, 2], "item_id": ["x", "y"]}},
        {"pairs": {"user_id": [1, 2], "item_id": ["x", "y"]}},
        {"user_id": [1, 2], "item_id": ["x", "y"]},
    ],
)
def test_pairs_come_as_objects_or_as_columns(document: dict[str, object]) -> None:
    assert parse_request(document, MOST) == ScoreRequest([1, 2], ["x", "y"])


def test_every_ask_of_the_definition_is_read() -> None:
    for ask in ASKS:
        assert set(ask.example) <= {*ask.required, *ask.optional}
        assert {*ask.required, *ask.optional} <= set(FIELDS)
        parse_request(ask.example, MOST)
        for name in ask.optional:
            example = {"k": 3, "exclude_seen": True, "where": {"a": 1}}.get(name, ["a"])
            parse_request({**ask.example, name: example}, MOST)


LONG = "x" * 1025
IDS = ["i"] * 21


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], "the body is a JSON list"),
        ("x", "the body is a JSON text"),
        (None, "the body is a JSON null"),
        (3, "the body is a JSON number"),
        ({}, "asks for nothing"),
        ({"k": 3}, "asks for nothing"),
        ({"user_id": "u", "k": 0}, "k is 0; it must be a whole number of at least 1"),
        ({"user_id": "u", "k": -3}, "k is -3;"),
        ({"user_id": "u", "k": None}, "k is null;"),
        ({"user_id": "u", "k": 2.5}, "k is 2.5;"),
        ({"user_id": "u", "k": "5"}, "k is '5';"),
        ({"user_id": "u", "k": True}, "k is true;"),
        ({"user_id": None}, "user_id is null; an id is a text or a whole number"),
        ({"user_id": 1.5}, "user_id is 1.5;"),
        ({"user_id": True}, "user_id is true;"),
        ({"user_id": ""}, "user_id is '';"),
        ({"user_id": ["u"]}, "user_id is a list;"),
        ({"user_id": LONG}, "user_id has 1,025 characters; an id has at most 1,024"),
        ({"user_id": "u", "topk": 3}, "field 'topk' is unknown"),
        ({"user": "u"}, "field 'user' is unknown; did you mean 'user_id'?"),
        ({"user_id": "u", "kk": 3}, "did you mean 'k'?"),
        ({"user_id": "u", "exclude_sen": True}, "did you mean 'exclude_seen'?"),
        ({"user_id": "u", "exclude_seen": 1}, "exclude_seen is 1; it must be true or false"),
        ({"user_id": "u", "exclude": "a"}, "exclude is 'a'; it must be a list of item ids"),
        ({"user_id": "u", "exclude": {"a": 1}}, "exclude is an object;"),
        ({"user_id": "u", "exclude": ["a", None]}, "exclude[1] is null;"),
        ({"user_id": "u", "allow": []}, "allow is empty;"),
        ({"user_id": "u", "allow": IDS}, "allow holds 21 ids; at most 20 are taken (SERVE_MAX_LIST_ITEMS)"),
        ({"user_id": "u", "candidates": IDS}, "candidates holds 21 ids;"),
        ({"user_id": "u", "candidates": []}, "candidates is empty;"),
        ({"user_id": "u", "candidates": [["a"]]}, "candidates[0] is a list;"),
        ({"candidates": ["a"]}, "candidates needs a user_id;"),
        ({"user_id": "u", "candidates": ["a"], "allow": ["a"]}, "allow does not go with user_id and candidates"),
        ({"history": []}, "history is empty;"),
        ({"history": IDS}, "history holds 21 ids;"),
        ({"history": "a"}, "history is 'a';"),
        ({"user_id": "u", "history": ["a"]}, "user_id does not go with history, which takes k,"),
        ({"user_id": "u", "item_id": "a"}, "item_id does not go with user_id"),
        ({"item_id": "a", "exclude_seen": False}, "exclude_seen does not go with item_id"),
        ({"user_id": "u", "where": {}}, "where is an object; it must be an object such as"),
        ({"user_id": "u", "where": ["c"]}, "where is a list;"),
        ({"user_id": "u", "where": {"c": ["a"]}}, "where.'c' is a list; give one text,"),
        ({"user_id": "u", "with": "title"}, "with is 'title'; it must be a list of columns such as [\"title\"]"),
        ({"user_id": "u", "with": [1]}, "with is a list;"),
        ({"pairs": []}, "pairs must be a list"),
        ({"pairs": "u"}, "pairs must be a list"),
        ({"pairs": {"user_id": "u"}}, "two lists of one length"),
        ({"pairs": {"user_id": ["u"], "item_id": ["i", "j"]}}, "two lists of one length"),
        ({"pairs": {"user_id": [], "item_id": []}}, "two lists of one length"),
        ({"pairs": {"user_id": ["u"], "item_ids": ["i"]}}, "did you mean 'item_id'?"),
        ({"pairs": {"user_id": ["u", 2.5], "item_id": ["i", "j"]}}, "pairs.user_id[1] is 2.5;"),
        ({"pairs": [{"user_id": "u"}]}, "pairs[0] is an object; it needs user_id and item_id"),
        ({"pairs": [{"user_id": "u", "item_id": 1}, 5]}, "pairs[1] is 5;"),
        ({"pairs": [["u", "i"], ["u"]]}, "pairs[1] is"),
        ({"pairs": [["u", "i", 1]]}, "pairs[0] is"),
        ({"pairs": [["u", 1.5]]}, "pairs[0].item_id is 1.5"),
        ({"user_id": 1e300}, "user_id is 1e+300;"),
        ({"pairs": [{"user_id": "u", "item_id": None}]}, "pairs[0].item_id is null;"),
        ({"pairs": [{"user_id": "u", "item_id": LONG}]}, "pairs[0].item_id has 1,025 characters"),
        ({"pairs": [{"user_id": "u", "item_id": ""}]}, "pairs[0].item_id is '';"),
        ({"pairs": [{"user_id": "u", "item_id": 1, "items": 2}]}, "field 'pairs[0].items' is unknown"),
        ({"pairs": [{"user_id": "u", "item_id": 1}], "user_id": "u"}, "field 'user_id' is unknown"),
        ({"pairs_index": [[1], [2]]}, "field 'pairs_index' is unknown"),
    ],
)
def test_a_bad_request_names_field_value_and_remedy(document: object, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_request(document, MOST)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_request({"user_id": ["x" * 10_000]}, MOST)
    assert len(str(caught.value)) < 200
