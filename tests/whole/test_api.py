"""The recommendation API over HTTP: every ask, every content type, every mistake, on the real servers."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from typing import Any

import pytest
import torch

from ncf.training.run_directory import Run
from serve.recommend.asks import ASKS
from tests.support.serving import Server
from tests.whole.conftest import FOOD, JSON, USER, ask, items

pytestmark = [pytest.mark.e2e, pytest.mark.core]


@pytest.fixture(scope="module")
def scores(food_run: Run) -> dict[Any, float]:
    """What the trained model gives the user for every item."""
    with torch.inference_mode():
        score = food_run.model(torch.tensor([USER]), torch.arange(len(food_run.items)))
    return dict(zip(food_run.items.ids, score.tolist(), strict=True))


@pytest.fixture(scope="module")
def seen(food_run: Run) -> set[Any]:
    known = food_run.known
    return set(food_run.items.decode(known.items[known.indptr[USER] : known.indptr[USER + 1]].tolist()))


def best(scores: dict[Any, float], allowed: set[Any], k: int) -> list[Any]:
    return sorted(allowed, key=lambda item: -scores[item])[:k]


def test_conditions_are_honoured_exactly(
    server: Server, scores: dict[Any, float], seen: set[Any], user_id: Any
) -> None:
    every = set(scores)
    kinds = {item: str(item).split("-")[0] for item in every}
    number = {item: int(str(item).split("-")[1]) for item in every}
    cases: list[tuple[dict[str, Any], set[Any]]] = [
        ({}, every),
        ({"exclude_seen": False}, every),
        ({"exclude": sorted(every)[:200]}, set(sorted(every)[200:])),
        ({"allow": ["sushi-01", "taco-02", "nobody's"]}, {"sushi-01", "taco-02"}),
        ({"where": {"kind": "sushi"}}, {item for item in every if kinds[item] == "sushi"}),
        ({"where": {"kind": "sushi", "number": 7}}, {"sushi-07"}),
        ({"where": {"number": "7"}}, {item for item in every if str(item).endswith("-07")}),
        ({"where": {"kind": None}}, {"pizza-01"}),
        ({"where": {"kind": "vegan"}}, set()),
        ({"where": {"even": True}}, {item for item in every if number[item] % 2 == 0}),
        ({"where": {"divisors": 3}}, {item for item in every if number[item] % 3 == 0}),
        ({"where": {"divided": "3"}}, {item for item in every if number[item] % 3 == 0}),
        ({"where": {"divided": "2|3"}}, {item for item in every if number[item] % 30 in (6, 12, 18, 24)}),
        ({"where": {"divisors": 3, "divided": "5", "kind": "sushi"}}, {"sushi-15", "sushi-30"} & every),
        ({"where": {"divisors": None}}, {item for item in every if all(number[item] % by for by in (2, 3, 5))}),
        ({"where": {"divisors": 7}}, set()),
    ]
    for condition, allowed in cases:
        answer = ask(server, user_id=user_id, k=100, **condition)
        assert answer["reason"] == "personal"
        hidden = seen if condition.get("exclude_seen", True) else set()
        assert items(answer) == best(scores, allowed - hidden, 100), condition
        for one in answer["recommendations"]:
            assert one["score"] == pytest.approx(scores[one["item_id"]], abs=1e-5)


def test_metadata_comes_with_the_items(server: Server, user_id: Any) -> None:
    answer = ask(server, user_id=user_id, k=5, where={"kind": "soup"}, **{"with": ["title", "number"]})
    for one in answer["recommendations"]:
        number = int(one["item_id"].split("-")[1])
        assert (one["title"], one["number"]) == (f"Soup {number}", number)
    every = ["title", "divisors", "divided", "even"]
    answer = ask(server, user_id=user_id, candidates=["sushi-06", "pizza-01", "soup-07"], **{"with": every})
    assert {one["item_id"]: [one[name] for name in every] for one in answer["recommendations"]} == {
        "sushi-06": ["Sushi 6", [2, 3], "2|3", True],
        "soup-07": ["Soup 7", [], None, False],
        "pizza-01": [None, [], None, None],
    }


def test_a_list_is_one_cell_of_a_table(server: Server, user_id: Any) -> None:
    asked = {"model": FOOD, "user_id": user_id, "candidates": ["sushi-06"], "with": ["divisors"]}
    line = server.invoke(asked, {"Accept": "text/csv"}).body
    assert line.startswith(b"sushi-06,")
    assert line.endswith(b',"[2,3]"\n')


def test_candidates_are_put_into_order(server: Server, scores: dict[Any, float], user_id: Any) -> None:
    answer = ask(server, user_id=user_id, candidates=["taco-02", "nix", "sushi-01", "soup-03"])
    known = best(scores, {"taco-02", "sushi-01", "soup-03"}, 3)
    assert items(answer) == [*known, "nix"]
    assert answer["unknown_items"] == ["nix"]
    assert "score" not in answer["recommendations"][-1]


def test_new_users_are_answered_by_their_history(server: Server, food_run: Run) -> None:
    history = ["sushi-01", "sushi-02", "sushi-04", "sushi-05"]
    answer = ask(server, history=[*history, "nix"], k=10)
    assert answer["reason"] == "history"
    assert answer["unknown_items"] == ["nix"]
    assert not set(history) & set(items(answer))
    assert ask(server, history=["nix"])["reason"] == "popular"


def test_similar_items_never_hold_the_item_itself(server: Server) -> None:
    answer = ask(server, item_id="sushi-01", k=20)
    assert answer["reason"] == "similar"
    assert "sushi-01" not in items(answer)
    scores = [one["score"] for one in answer["recommendations"]]
    assert scores == sorted(scores, reverse=True)
    assert max(scores) <= 1 + 1e-5


def test_many_requests_are_answered_in_order_and_fail_alone(server: Server, user_id: Any) -> None:
    requests: list[Any] = [
        {"user_id": user_id, "k": 2},
        {"user_id": user_id, "kk": 2},
        "x",
        {"model": "nobody", "user_id": 1},
        {"model": "tiny", "user_id": "user 0", "k": 1},
        {"item_id": "sushi-01", "k": 1},
        {"history": ["sushi-01"], "k": 1},
        {"pairs": {"user_id": [user_id], "item_id": ["sushi-01"]}},
        {"model": "broken", "user_id": "user 0"},
        *[{"user_id": f"u{number}", "k": 1} for number in range(1, 600)],
    ]
    found = server.invoke({"model": FOOD, "requests": requests}).json["responses"]
    assert len(found) == len(requests)
    codes = [one["error"]["code"] if "error" in one else one["model_name"] for one in found[:9]]
    assert codes == [FOOD, "bad_request", "bad_request", "unknown_model", "tiny", FOOD, FOOD, FOOD, "unavailable"]
    assert "did you mean 'k'" in found[1]["error"]["message"]
    assert len({one["request_id"] for one in found}) == 1
    for place in (9, 300, 607):
        alone = ask(server, **requests[place])
        assert items(found[place]) == items(alone)
        assert found[place]["recommendations"][0]["score"] == pytest.approx(
            alone["recommendations"][0]["score"], abs=1e-5
        )


def test_what_comes_in_has_no_way_into_a_header_or_a_log_line(server: Server) -> None:
    before = len(server.log.read_text())
    raw = b'{"model": "ncf_food_model", "user_id": "a\\r\\nX-Evil: 1", "k": 1}'
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(raw)
        connection.sendall(head + raw)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"X-Evil" not in head
    assert json.loads(body)["reason"] == "popular"
    assert server.log.read_text()[before:] == ""


def test_the_openapi_document_is_what_the_server_does(server: Server, food_run: Run) -> None:
    """Every example in it is asked, and every answer is checked against it."""
    from jsonschema import Draft202012Validator  # it takes two seconds, so a process that does not ask does not wait

    document = server.request("GET", "/openapi.json").json
    post = document["paths"]["/invocations"]["post"]
    schema = {**post["responses"]["200"]["content"][JSON]["schema"], "components": document["components"]}
    examples = [example["value"] for example in post["requestBody"]["content"][JSON]["examples"].values()]
    assert len(examples) == len(ASKS)
    more = [
        {"user_id": "u17", "candidates": ["sushi-01", "nix"]},
        {"user_id": "nobody", "k": 3, "with": ["title", "number"]},
        {"pairs": [{"user_id": "u17", "item_id": "nix"}]},
        {"requests": [{"user_id": "u17", "kk": 3}, {"item_id": "nix"}]},
    ]
    for example in [*examples, {"requests": examples}, *more]:
        answer = server.invoke({"model": FOOD, **example})
        assert answer.status == 200
        Draft202012Validator(schema).validate(answer.json)
    for status, refused in ((400, {"user_id": "u17", "k": 0}), (404, {"model": "nobody", "user_id": 1})):
        answer = server.invoke({"model": FOOD, **refused})
        assert answer.status == status
        failed = {**post["responses"][str(status)]["content"][JSON]["schema"], "components": document["components"]}
        Draft202012Validator(failed).validate(answer.json)


def test_kept_alive_connections_take_one_kind_after_another(server: Server) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        for number in range(50):
            body = json.dumps({"model": FOOD, **ASKS[number % len(ASKS)].example})
            connection.request("POST", "/invocations", body if number % 7 else "{")
            response = connection.getresponse()
            response.read()
            assert response.status == (200 if number % 7 else 400)
