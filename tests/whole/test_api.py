"""The recommendation API over HTTP: every ask, every content type, every mistake, on the real servers."""

from __future__ import annotations

import csv
import http.client
import io
import json
import socket
import time
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from ncf.training.run_directory import Run
from serve.recommend.asks import ASKS
from tests.support.serving import Answer, Server, children_of

pytestmark = [pytest.mark.e2e, pytest.mark.core]

FOOD = "ncf_food_model"
USER = 17  # index


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


@pytest.fixture(scope="module")
def user_id(food_run: Run) -> Any:
    return food_run.users.ids[USER]


def ask(server: Server, **document: Any) -> Any:
    answer = server.invoke({"model": FOOD, **document})
    assert answer.status == 200, answer.body
    return answer.json


def items(answer: Any) -> list[Any]:
    return [one["item_id"] for one in answer["recommendations"]]


def best(scores: dict[Any, float], allowed: set[Any], k: int) -> list[Any]:
    return sorted(allowed, key=lambda item: -scores[item])[:k]


def test_conditions_are_honoured_exactly(
    server: Server, scores: dict[Any, float], seen: set[Any], user_id: Any
) -> None:
    every = set(scores)
    kinds = {item: str(item).split("-")[0] for item in every}
    cases: list[tuple[dict[str, Any], set[Any]]] = [
        ({}, every - seen),
        ({"exclude_seen": False}, every),
        ({"exclude": sorted(every - seen)[:200]}, set(sorted(every - seen)[200:])),
        ({"allow": ["sushi-01", "taco-02", "nobody's"]}, {"sushi-01", "taco-02"} - seen),
        ({"where": {"kind": "sushi"}}, {item for item in every if kinds[item] == "sushi"} - seen),
        ({"where": {"kind": "sushi", "number": 7}}, {"sushi-07"} - seen),
        ({"where": {"number": "7"}}, {item for item in every if str(item).endswith("-07")} - seen),
        ({"where": {"kind": None}}, {"pizza-01"} - seen),
        ({"where": {"kind": "vegan"}}, set()),
    ]
    for condition, allowed in cases:
        answer = ask(server, user_id=user_id, k=100, **condition)
        assert answer["reason"] == "personal"
        assert items(answer) == best(scores, allowed, 100), condition
        for one in answer["recommendations"]:
            assert one["score"] == pytest.approx(scores[one["item_id"]], abs=1e-5)


def test_metadata_comes_with_the_items(server: Server, user_id: Any) -> None:
    answer = ask(server, user_id=user_id, k=5, where={"kind": "soup"}, **{"with": ["title", "number"]})
    for one in answer["recommendations"]:
        number = int(one["item_id"].split("-")[1])
        assert (one["title"], one["number"]) == (f"Soup {number}", number)
    unknown = ask(server, user_id=user_id, allow=["pizza-01"], exclude_seen=False, **{"with": ["title"]})
    assert unknown["recommendations"][0]["title"] is None


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


def send(server: Server, body: bytes, content_type: str, accept: str | None = None) -> Answer:
    headers = {"Content-Type": content_type, "X-Amzn-SageMaker-Custom-Attributes": f"model={FOOD}"}
    return server.request("POST", "/invocations", body, {**headers, **({"Accept": accept} if accept else {})})


def test_json_lines_csv_and_npy(server: Server, food_run: Run, user_id: Any) -> None:
    lines = send(
        server, b'{"user_id": "u1", "k": 1}\nnonsense\n{"item_id": "sushi-01", "k": 1}\n', "application/jsonlines"
    )
    assert lines.headers["content-type"] == "application/jsonlines"
    first, second, third = (json.loads(line) for line in lines.body.splitlines())
    assert (first["reason"], second["error"]["code"], third["reason"]) == ("personal", "bad_request", "similar")

    pairs = [(user_id, "sushi-01"), (user_id, "nix"), ("u1", "taco-02")]
    wanted = ask(server, pairs={"user_id": [u for u, _ in pairs], "item_id": [i for _, i in pairs]})["scores"]
    for header in ("", "user_id,item_id\n"):
        table = send(server, (header + "".join(f"{u},{i}\n" for u, i in pairs)).encode(), "text/csv; charset=utf-8")
        assert table.headers["content-type"] == "text/csv"
        assert [json.loads(line) for line in table.body.splitlines()] == pytest.approx(wanted, abs=1e-5)
    ranked = send(server, b"user_id,k\nu1,2\nu2,3\n", "text/csv")
    rows = list(csv.reader(io.StringIO(ranked.body.decode())))
    assert rows[0][::2] == items(ask(server, user_id="u1", k=2))
    assert rows[1][::2] == items(ask(server, user_id="u2", k=3))

    held = io.BytesIO()
    np.save(held, np.array([[USER, 3], [USER, 10**6], [-1, 4]]))
    scored = send(server, held.getvalue(), "application/x-npy")
    assert scored.headers["content-type"] == "application/x-npy"
    array = np.load(io.BytesIO(scored.body), allow_pickle=False)
    assert array.dtype == np.float32
    with torch.inference_mode():
        assert array[0] == pytest.approx(float(food_run.model(torch.tensor([USER]), torch.tensor([3]))), abs=1e-5)
    assert np.isnan(array[1:]).all()


def test_accept_chooses_the_format(server: Server, user_id: Any) -> None:
    body = json.dumps({"user_id": user_id, "k": 2}).encode()
    wanted = items(ask(server, user_id=user_id, k=2))
    table = send(server, body, "application/json", "text/csv;q=0.9, application/json;q=0.1")
    assert table.body.decode().strip().split(",")[::2] == wanted
    array = np.load(io.BytesIO(send(server, body, "application/json", "application/x-npy").body), allow_pickle=False)
    assert array["item_id"].tolist() == wanted
    assert json.loads(send(server, body, "application/json", "application/x-ndjson").body)["reason"] == "personal"
    refused = send(server, body, "application/json", "image/png")
    assert (refused.status, refused.json["code"]) == (406, "not_acceptable")
    assert "text/csv" in refused.json["error"]


def test_c046_c047_tritons_binary_type(server: Server, food_run: Run) -> None:
    inputs = [
        {"name": name, "shape": [2, 1], "datatype": "INT64", "parameters": {"binary_data_size": 16}}
        for name in ("user_index", "item_index")
    ]
    header = json.dumps(
        {"inputs": inputs, "outputs": [{"name": "score", "parameters": {"binary_data": True}}]}
    ).encode()
    tensors = np.array([USER, 3]).tobytes() + np.array([5, 6]).tobytes()
    content_type = "application/vnd.sagemaker-triton.binary+json"
    answer = send(server, header + tensors, f"{content_type};json-header-size={len(header)}")
    assert answer.status == 200
    kind, _, length = answer.headers["content-type"].partition(";json-header-size=")
    assert kind == content_type
    with torch.inference_mode():
        wanted = food_run.model(torch.tensor([USER, 3]), torch.tensor([5, 6])).tolist()
    assert np.frombuffer(answer.body[int(length) :], np.float32).tolist() == pytest.approx(wanted, abs=1e-5)
    assert send(server, header + tensors, f"{content_type};json-header-size=x").status == 400


def npy(array: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=True)
    return held.getvalue()


JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


@pytest.mark.parametrize(
    ("content_type", "body", "status", "message"),
    [
        (JSON, b'{"user_id": "' + b"u" * 2**20 + b'"}', 400, "user_id has 1,048,576 characters"),
        (
            JSON,
            json.dumps({"user_id": "u1", "candidates": ["a"] * 10_000}).encode(),
            400,
            "candidates holds 10,000 ids",
        ),
        (JSON, b'{"user_id": "u1", "k": 1000000000}', 400, "k is 1000000000"),
        (JSON, b'{"user_id": "u1", "k": 99999999999999999999}', 400, "k is 1e+20"),
        (JSON, b'{"user_id": "u1", "history": ["a"]}', 400, "user_id does not go with history"),
        (JSON, b'{"user_id": NaN}', 400, "is not JSON"),
        (JSON, b'{"user_id": Infinity}', 400, "is not JSON"),
        (JSON, b'{"user_id": "u1", "user_id": "u2"}', 400, "the field 'user_id' more than once"),
        (JSON, b"[" * 10_000, 400, "nested more than 1,024 levels"),
        (JSON, b'{"user_id": "\xff"}', 400, "is not UTF-8"),
        (JSON + "; charset=latin-1", b'{"user_id": "u1"}', 415, "charset is 'latin-1'"),
        (JSON, b'{"requests": []}', 400, "requests is empty"),
        (JSON, json.dumps({"requests": [{"user_id": 1}] * 5001}).encode(), 400, "5,001 requests; at most 5,000"),
        (
            JSON,
            b'{"user_id": "u1", "where": {"colour": "red"}}',
            400,
            "'colour', which ncf_food_model has no column for",
        ),
        (CSV, b"user_id,colour\nu1,red\n", 400, "colour"),
        (NPY, npy(np.array([["a", {}]], dtype=object)), 400, "dtype is object"),
        (NPY, npy(np.zeros((2, 2))), 400, "dtype"),
        (NPY, npy(np.zeros((2, 3), np.int64)), 400, "shape"),
        (NPY, b"\x93NUMPY", 400, ""),
        ("image/png", b"\x89PNG", 415, "application/json"),
    ],
)
def test_bad_input_is_refused_and_the_server_stays_up(
    server: Server, content_type: str, body: bytes, status: int, message: str
) -> None:
    triton = children_of(server.process.pid)["tritonserver"]
    answer = send(server, body, content_type)
    assert (answer.status, message in answer.json["error"]) == (status, True), answer.body[:500]
    assert len(answer.body) < 1000
    assert children_of(server.process.pid)["tritonserver"] == triton
    assert server.ping() == 200


def test_a_bad_line_of_a_table_costs_itself_alone(server: Server) -> None:
    """However the body arrives: in one segment, or as 1,448-byte segments of a network."""
    body = b'u1,sushi-01\nu2\nu1,"sushi-01\nu1,,,\n\xff\xfeu1\n,taco-01\n\nu1,sushi-01\n'
    answer = send(server, body, CSV)
    assert (answer.status, answer.headers["content-type"]) == (200, CSV)
    lines = answer.body.decode().splitlines()
    assert [line.strip('"').partition(":")[0] == "ERROR" for line in lines] == [False, *[True] * 6, False]
    assert float(lines[0]) == float(lines[7])
    for number, line in enumerate(lines[1:7], 2):
        assert f"line {number}" in line
    long = body * 40
    raw = b"POST /invocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/csv\r\n"
    raw += b"X-Amzn-SageMaker-Custom-Attributes: model=%b\r\n" % FOOD.encode()
    raw += b"Content-Length: %d\r\n\r\n%b" % (len(long), long)
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(raw), 1448):
            connection.sendall(raw[start : start + 1448])
            time.sleep(0.002)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.partition(b"\r\n\r\n")[2] == send(server, long, CSV).body


def test_a_bom_is_no_part_of_the_first_id(server: Server) -> None:
    bom = b"\xef\xbb\xbf"
    assert json.loads(send(server, bom + b'{"user_id": "u1", "k": 1}', JSON).body)["reason"] == "personal"
    assert send(server, bom + b"u1,sushi-01\n", CSV).body == send(server, b"u1,sushi-01\n", CSV).body


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
