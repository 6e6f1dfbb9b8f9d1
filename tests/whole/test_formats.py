"""The content types of requests and answers: JSON Lines, CSV, NPY and Triton's binary type, on the real servers."""

from __future__ import annotations

import csv
import io
import json
import socket
import time
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

from ncf.training.run_directory import Run
from tests.support.serving import Answer, Server, children_of
from tests.whole.conftest import CSV, FOOD, JSON, NPY, USER, ask, items

pytestmark = [pytest.mark.e2e, pytest.mark.core]


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


def npy(array: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=True)
    return held.getvalue()


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
        (NPY, npy(np.full((2, 2), 0.5)), 400, "a fraction"),
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
