"""Batch transform: bodies with a record a line, as SplitType=Line and MultiRecord send them (CONTRACT C81-C86)."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Answer, Server, children_of
from tests.support.small_models import slow_body, slow_model

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def batch(repository: Path) -> Iterator[Server]:
    with Server(
        repository, SAGEMAKER_BATCH="true", SAGEMAKER_TRITON_DEFAULT_MODEL_NAME="ncf_food_model", SERVE_WORKERS="1"
    ) as server:
        server.wait_until_ready()
        yield server


def post(server: Server, body: bytes, content_type: str, **headers: str) -> Answer:
    return server.request("POST", "/invocations", body, {"Content-Type": content_type, **headers})


def json_lines(documents: list[object]) -> bytes:
    return b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in documents)


@pytest.mark.parametrize("content_type", ["application/jsonlines", "application/json", "application/octet-stream"])
def test_c081_json_lines_get_one_line_each_in_order(batch: Server, content_type: str) -> None:
    users = [f"u{number % 600}" for number in range(7_000)]  # more than a body may ask at once elsewhere
    answer = post(batch, json_lines([{"user_id": user, "k": 2} for user in users]), content_type)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/jsonlines"
    lines = [json.loads(line) for line in answer.body.splitlines()]
    alone = {user: batch.invoke({"user_id": user, "k": 2}).json["recommendations"] for user in users[:40]}
    assert len(lines) == len(users)
    for user, line in zip(users, lines, strict=True):
        if user in alone:  # in a batch of other rows a float's last digit may be another
            assert [one["score"] for one in line["recommendations"]] == pytest.approx(
                [one["score"] for one in alone[user]], abs=1e-5
            )
    assert len({str(each) for each in alone.values()}) > 10


def test_c081_csv_gets_one_line_each_in_order(batch: Server) -> None:
    users = [f"u{number % 600}" for number in range(6_000)]
    answer = post(batch, "\n".join(users).encode(), "text/csv")
    assert answer.headers["content-type"] == "text/csv"
    lines = answer.body.decode().splitlines()
    assert len(lines) == len(users)
    assert lines[0] == lines[600] != lines[1]
    assert re.fullmatch(r"([a-z]+-\d\d,-?[\d.e-]+,?)+", lines[5])


def test_c086_a_bad_line_costs_only_its_line(batch: Server) -> None:
    documents = [{"user_id": "u1"}, b"{broken", {"user": "u1"}, {"user_id": "u1", "k": 0}, {"user_id": "u1"}]
    lines = [json.loads(line) for line in post(batch, json_lines(documents), "application/jsonlines").body.splitlines()]
    assert ["error" in line for line in lines] == [False, True, True, True, False]
    assert "line 2" in lines[1]["error"]["message"]
    pairs = post(batch, b"user_id,item_id\nu1,soup-02\nu1\nu1,nothing\nu1,taco-01\n", "text/csv").body.decode()
    first, bad, unknown, last = pairs.splitlines()
    assert float(first)
    assert bad.startswith('"ERROR: line 3')
    assert unknown == "null"
    assert float(last)


def test_c081_kserve_lines_are_answered_by_the_model(tmp_path: Path) -> None:
    """A model that is no recommender; its mistakes too cost only their line."""
    slow_model(tmp_path)
    documents: list[object] = [slow_body(0, number) for number in range(40)]
    documents[7] = {"inputs": []}
    documents[9] = {"user_id": "u1"}
    with Server(tmp_path) as server:
        server.wait_until_ready()
        for content_type in ("application/jsonlines", "application/json"):
            lines = [json.loads(line) for line in post(server, json_lines(documents), content_type).body.splitlines()]
            assert len(lines) == len(documents)
            for number, line in enumerate(lines):
                if number in (7, 9):
                    assert line["error"]["code"] == "bad_request"
                else:
                    assert line["outputs"][0]["data"] == [number]


def test_c018_c029_a_large_body_in_chunks_takes_bounded_memory(batch: Server) -> None:
    """30 MB of pairs without a length; the answer is larger than what is kept in memory, and comes whole."""
    row = b"u17,soup-02\n"
    count = 30_000_000 // len(row)
    worker = worker_of(batch)
    before = peak_memory(worker)
    connection = http.client.HTTPConnection("127.0.0.1", batch.port, timeout=120)
    chunks = (row * 10_000 for _ in range(count // 10_000))
    connection.request(
        "POST", "/invocations", (b"user_id,item_id\n", *chunks), {"Content-Type": "text/csv"}, encode_chunked=True
    )
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.status == 200
    lines = answer.splitlines()
    assert len(lines) == count // 10_000 * 10_000
    assert len({*lines}) == 1
    assert peak_memory(worker) - before < 100_000_000


def test_c029_a_body_beyond_the_limit_is_413(tmp_path: Path) -> None:
    slow_model(tmp_path)
    with Server(tmp_path, SAGEMAKER_BATCH="true", SERVE_MAX_BODY_BYTES="200000") as server:
        server.wait_until_ready()
        assert post(server, b"u1\n" * 100_000, "text/csv").status == 413


def test_c083_c084_execution_parameters_are_the_jobs_own(tmp_path: Path) -> None:
    slow_model(tmp_path)
    job = {
        "SAGEMAKER_BATCH": "True",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "20",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "2",
    }
    with Server(tmp_path, **job) as server:
        server.wait_until_ready()
        assert server.request("GET", "/execution-parameters").json == {
            "MaxConcurrentTransforms": 2,
            "BatchStrategy": "SingleRecord",
            "MaxPayloadInMB": 20,
        }


def test_c084_execution_parameters_of_the_platform(batch: Server) -> None:
    answer = batch.request("GET", "/execution-parameters").json
    assert answer["BatchStrategy"] == "MULTI_RECORD"
    assert answer["MaxConcurrentTransforms"] * answer["MaxPayloadInMB"] <= 100


def worker_of(server: Server) -> int:
    """The one worker process."""
    (worker,) = children_of(children_of(server.process.pid)["gunicorn"]).values()
    return worker


def peak_memory(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
