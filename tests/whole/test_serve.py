"""The real tritonserver behind the real gunicorn, asked over HTTP."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import tritonclient.http

from ncf.training.run_directory import Run
from tests.support.serving import Server, children_of

pytestmark = [pytest.mark.e2e, pytest.mark.core]

FOOD = "ncf_food_model"


def kserve(user: list[int], item: list[int], **more: Any) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "user_index", "datatype": "INT64", "shape": [len(user), 1], "data": user},
            {"name": "item_index", "datatype": "INT64", "shape": [len(item), 1], "data": item},
        ],
        **more,
    }


@torch.inference_mode()
def offline_scores(run: Run, user: list[int], item: list[int]) -> list[float]:
    scores: list[float] = run.model(torch.tensor(user), torch.tensor(item)).tolist()
    return scores


@torch.inference_mode()
def offline_top(run: Run, user: int, k: int) -> tuple[list[int | str], list[float]]:
    """Best items of a user with everything they have seen removed, raw ids and scores."""
    score = run.model(torch.tensor([user]), torch.arange(len(run.items)))
    score[run.known.items[run.known.indptr[user] : run.known.indptr[user + 1]]] = float("-inf")
    best = score.topk(min(k, int(torch.isfinite(score).sum())))
    return run.items.decode(best.indices.numpy()), best.values.tolist()


def assert_top_is(answer: dict[str, Any], run: Run, user: int, k: int) -> None:
    ids, scores = offline_top(run, user, k)
    assert [item["item_id"] for item in answer["recommendations"]] == ids
    assert [item["score"] for item in answer["recommendations"]] == pytest.approx(scores, abs=1e-5)


def test_ping_is_200_and_empty(server: Server) -> None:
    for method in ("GET", "POST", "HEAD"):
        answer = server.request(method, "/ping")
        assert (answer.status, answer.body) == (200, b"")
    assert server.request("GET", "/ping?x=1").status == 200
    assert server.request("DELETE", "/ping").status == 405


@pytest.mark.parametrize("name", ["food", "fashion"])
def test_recommendations_are_the_offline_ones(server: Server, name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(f"{name}_run")
    for user in range(0, len(run.users), 97):
        asked = {"model": f"ncf_{name}_model", "user_id": run.users.ids[user], "k": 10}
        answer = server.invoke(asked)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["reason"] == "personal"
        assert (answer.json["model_name"], answer.json["model_version"]) == (f"ncf_{name}_model", "1")
        assert_top_is(answer.json, run, user, 10)


def test_pairs_are_the_offline_scores(server: Server, food_run: Run) -> None:
    torch.manual_seed(0)
    user = torch.randint(len(food_run.users), (300,)).tolist()
    item = torch.randint(len(food_run.items), (300,)).tolist()
    pairs = [
        {"user_id": u, "item_id": i}
        for u, i in zip(food_run.users.decode(user), food_run.items.decode(item), strict=True)
    ]
    answer = server.invoke({"model": FOOD, "pairs": pairs})
    assert answer.status == 200
    assert answer.json["scores"] == pytest.approx(offline_scores(food_run, user, item), abs=1e-5)


def test_c030_kserve_json_passes_under_any_content_type(server: Server, food_run: Run) -> None:
    body = json.dumps(kserve([3, 5], [8, 9], id="abc")).encode()
    headers = {"X-Amzn-SageMaker-Custom-Attributes": f"model={FOOD}"}
    for content_type in ("application/json", "application/octet-stream", "text/csv", None):
        more = {"Content-Type": content_type} if content_type else {}
        answer = server.request("POST", "/invocations", body, {**headers, **more})
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["id"] == "abc"
        assert answer.json["model_name"] == FOOD
        (output,) = answer.json["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("score", "FP32", [2, 1])
        assert output["data"] == pytest.approx(offline_scores(food_run, [3, 5], [8, 9]), abs=1e-5)


def test_the_model_is_chosen_by_body_attributes_or_target_model(server: Server) -> None:
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": "trace=7, model=ncf_fashion_model"}
    target = {"X-Amzn-SageMaker-Target-Model": "tiny"}
    user = {"user_id": "7"}
    assert server.invoke({**user, "model": FOOD}, {**attributes, **target}).json["model_name"] == FOOD
    assert server.invoke(user, {**attributes, **target}).json["model_name"] == "ncf_fashion_model"
    assert server.invoke(user, target).json["model_name"] == "tiny"
    assert server.invoke(kserve([1], [1], model="tiny")).json["model_name"] == "tiny"
    none = server.invoke(user)
    assert none.status == 400
    assert "ncf_fashion_model, ncf_food_model, tiny" in none.json["error"]


def test_ids_compare_as_text_and_come_back_as_they_were(server: Server, fashion_run: Run, tiny_run: Run) -> None:
    number, text = (server.invoke({"model": "ncf_fashion_model", "user_id": raw}).json for raw in (42, "42"))
    assert (number.pop("request_id"), text.pop("request_id")) != (None, None)
    assert number == text
    tiny = server.invoke({"model": "tiny", "user_id": "user 0", "k": 6}).json
    assert set(tiny_run.items.ids) > {item["item_id"] for item in tiny["recommendations"]}
    assert len(tiny["recommendations"]) == 3  # of six items the user has seen three
    awkward = [{"user_id": "user 0", "item_id": item} for item in tiny_run.items.ids]
    assert None not in server.invoke({"model": "tiny", "pairs": awkward}).json["scores"]


def test_an_unknown_user_gets_popular_items_and_is_told_so(server: Server, food_run: Run) -> None:
    answer = server.invoke({"model": FOOD, "user_id": "nobody, ever", "k": 5})
    assert answer.status == 200
    assert answer.json["reason"] == "popular"
    assert "'nobody, ever' is unknown to ncf_food_model" in answer.json["message"]
    counts = torch.bincount(food_run.known.items)
    assert [item["score"] for item in answer.json["recommendations"]] == counts.topk(5).values.tolist()


def test_a_user_who_has_seen_everything_gets_an_empty_list(server: Server) -> None:
    answer = server.invoke({"model": "tiny", "user_id": "all", "k": 3})
    assert answer.status == 200
    assert answer.json["recommendations"] == []


def test_an_unknown_item_is_null_and_its_neighbours_are_answered(server: Server) -> None:
    pairs = [{"user_id": "u1", "item_id": item} for item in ("sushi-01", "no such item", "soup-02")]
    answer = server.invoke({"model": FOOD, "pairs": pairs}).json
    assert [score is None for score in answer["scores"]] == [False, True, False]
    assert answer["unknown"] == [{"row": 1, "message": "item_id 'no such item' is unknown"}]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is empty"),
        (b"{", 400, "the body is not JSON"),
        (b'{"inputs": [', 400, "the body is not JSON"),
        (b"\xff\xfe", 400, "the body is not UTF-8"),
        (b"[]", 400, "the body is a JSON list"),
        (b'{"model": "nope", "user_id": "u1"}', 404, "'nope', which is not served here"),
        (b'{"model": "../ncf_food_model", "user_id": "u1"}', 404, "not served here"),
        (b'{"model": "ncf_food_model_topk", "user_id": "u1"}', 400, "is no recommender"),
        (b'{"model": "tiny", "user_id": "u1", "k": 0}', 400, "k is 0"),
        (b'{"model": "tiny", "user_id": "u1", "k": -1}', 400, "k is -1"),
        (b'{"model": "tiny", "user_id": "u1", "k": 101}', 400, "k is 101; tiny returns at most 100"),
        (b'{"model": "ncf_food_model", "user_id": "u1", "k": 101}', 400, "returns at most 100"),
        (b'{"model": "ncf_food_model", "user": "u1"}', 400, "did you mean 'user_id'"),
    ],
)
def test_a_bad_request_says_what_is_wrong(server: Server, body: bytes, status: int, message: str) -> None:
    answer = server.invoke(body, {"X-Amzn-SageMaker-Target-Model": "tiny"})
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert message in answer.json["error"]


def test_c035_tritons_own_refusals_come_through(server: Server) -> None:
    wrong = kserve([1], [1])
    wrong["inputs"][0]["datatype"] = "FP32"
    missing = {"inputs": kserve([1], [1])["inputs"][:1]}
    for document in (wrong, missing, kserve([1], [1], outputs=[{"name": "nope"}])):
        answer = server.invoke(document, {"X-Amzn-SageMaker-Target-Model": FOOD})
        assert answer.status == 400
        assert answer.json["error"]


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2**62, 1], [1]),
        ([2**31, 1], [1]),
        ([2**27, 1], [1]),
        ([3, 1], [1]),
        ([-1, 1], [1]),
        (["1", 1], [1]),
        ([1, 1], ["x"]),
        ([1, 1], [[[[1, 2]]]]),
        (None, [1]),
        ({}, [1]),
        ([2**200, 1], [1]),
    ],
)
def test_a_shape_or_data_that_cannot_be_is_400_and_hurts_nobody(server: Server, shape: Any, data: Any) -> None:
    triton = children_of(server.process.pid)["tritonserver"]
    document = kserve([1], [1])
    document["inputs"][0].update(shape=shape, data=data)
    answer = server.invoke(document, {"X-Amzn-SageMaker-Target-Model": FOOD})
    assert answer.status == 400
    assert answer.json["error"]
    assert children_of(server.process.pid)["tritonserver"] == triton
    assert server.ping() == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"user_id": ' + b"[" * 1000 + b"]" * 1000 + b"}",
        b'{"model": ' + b"[" * 1000 + b"]" * 1000 + b', "user_id": 1}',
        b'{"model": "tiny", "inputs": [' + b"[" * 300 + b"]" * 300 + b"]}",
        b'{"model": "tiny", "inputs": {}}',
        b'{"model": "tiny", "inputs": [1]}',
        b'{"model": "tiny", "id": 7, "inputs": [{"name": 5, "shape": [1, 1], "datatype": "INT64", "data": [1]}]}',
        b'{"' + b"k" * 20_000_000 + b'": 1}',
        b'{"user_id": "' + b"u" * 20_000_000 + b'"}',
        b'{"model": "' + b"m" * 20_000_000 + b'"}',
        b'{"user_id": 99999999999999999999999999}',
        b'{"user_id": "\\ud800"}',
    ],
)
def test_hostile_bodies_get_a_short_answer(server: Server, body: bytes) -> None:
    answer = server.invoke(body, {"X-Amzn-SageMaker-Target-Model": "tiny"})
    assert answer.status in (200, 400, 404)  # 200: a user with a very long or large id is only an unknown user
    assert len(answer.body) < 2000
    assert "Traceback" not in server.log.read_text()


def test_binary_outputs_come_with_the_length_of_their_header(server: Server, food_run: Run) -> None:
    document = kserve([3], [8], parameters={"binary_data_output": True})
    answer = server.invoke(document, {"X-Amzn-SageMaker-Target-Model": FOOD})
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["name"] == "score"
    (score,) = struct.unpack("<f", answer.body[length:])
    assert score == pytest.approx(offline_scores(food_run, [3], [8])[0], abs=1e-5)


def test_c034_other_methods_are_405_and_other_paths_404(server: Server) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = server.request(method, "/invocations")
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"
        assert "use POST" in answer.json["error"]
    for path in ("/", "/v2/health/ready", "/metrics", "/invocations/x", "/modelsfoo"):
        answer = server.request("GET", path)
        assert answer.status == 404
        assert "there is no such path" in answer.json["error"]
    assert server.request("PUT", "/models").status == 405


def test_a_body_of_30_mb_is_413_declared_or_chunked(server: Server) -> None:
    big = b" " * (30 * 2**20)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Length", str(len(big)))
    connection.endheaders()
    answer = connection.getresponse()  # the declared length is enough: not a byte of the body was sent
    assert answer.status == 413
    assert "at most 26,214,400 are taken" in json.loads(answer.read())["error"]
    connection.close()

    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        raw.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        try:
            for _ in range(26):
                raw.sendall(chunk)
        except OSError:
            pass  # refused before we were done sending
        assert raw.recv(100).startswith(b"HTTP/1.1 413")
    assert server.ping() == 200


def test_a_body_just_below_the_limit_is_taken(server: Server) -> None:
    body = json.dumps({"model": FOOD, "user_id": "u1"}).encode()
    answer = server.invoke(body + b" " * (25 * 2**20 - len(body)))
    assert answer.status == 200


def test_chunked_bodies_and_kept_alive_connections(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = json.dumps({"model": FOOD, "user_id": "u1", "k": 1}).encode()
    for _ in range(3):
        connection.request("POST", "/invocations", iter([body[:9], body[9:]]), encode_chunked=True)
        assert len(json.loads(connection.getresponse().read())["recommendations"]) == 1
    connection.close()


@pytest.mark.clock
def test_c039_gzip_in_and_out(server: Server) -> None:
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    asked = {"model": FOOD, "user_id": "u1", "k": 100}
    answer = server.invoke(gzip.compress(json.dumps(asked).encode()), headers)
    assert answer.status == 200
    assert answer.headers["content-encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(answer.body))["recommendations"]) == 100
    small = server.invoke({**asked, "k": 1}, {"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers
    assert len(small.json["recommendations"]) == 1
    bomb = gzip.compress(b" " * 2**28)
    began = time.monotonic()
    answer = server.invoke(bomb, headers)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert time.monotonic() - began < 2
    assert server.invoke(b"{}", {"Content-Encoding": "br"}).status == 415


def test_a_broken_model_costs_only_itself(server: Server) -> None:
    answer = server.invoke({"model": "broken", "user_id": "user 0"})
    assert answer.status == 503
    assert "broken is not ready" in answer.json["error"]
    assert server.ping() == 200
    assert server.invoke({"model": "tiny", "user_id": "user 0"}).status == 200


def test_control_plane_lists_what_is_loaded_and_what_is_not(server: Server, repository: Path) -> None:
    listed = server.request("GET", "/models").json
    names = [model["modelName"] for model in listed["models"]]
    assert {FOOD, f"{FOOD}_topk", f"{FOOD}_query", "ncf_fashion_model", "tiny"} <= set(names)
    assert not {"broken", "broken_topk", "broken_query"} & set(names)
    assert listed["models"][0]["modelUrl"].startswith(str(repository))
    (broken,) = listed["unavailable"]
    assert (broken["modelName"], broken["modelVersion"]) == ("broken", "1")
    assert re.search("cannot be loaded as TorchScript|failed to load model", broken["reason"])  # the two backends
    parameters = server.request("GET", "/execution-parameters").json
    assert parameters["BatchStrategy"] == "MULTI_RECORD"
    assert parameters["MaxConcurrentTransforms"] * parameters["MaxPayloadInMB"] <= 100


def test_one_callers_index_never_reaches_another_caller(server: Server, food_run: Run) -> None:
    """Rows of many callers share one forward; indices far outside the data are among them all the time."""
    headers = {"X-Amzn-SageMaker-Target-Model": FOOD}
    expected = offline_scores(food_run, [3], [8])[0]
    bad = [2**63 - 1, -(2**63), -1, 10**9]

    def ask(number: int) -> tuple[int, float]:
        wild = number % 2
        document = kserve([bad[number % 4] if wild else 3], [bad[(number + 1) % 4] if wild else 8])
        answer = server.invoke(document, headers)
        return answer.status, answer.json["outputs"][0]["data"][0]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(400)))
    assert {status for status, _ in answers} == {200}
    assert [score for _, score in answers[::2]] == pytest.approx([expected] * 200, abs=1e-5)


def test_many_callers_get_each_their_own_answer(server: Server, food_run: Run) -> None:
    def ask(user: int) -> tuple[int, dict[str, Any]]:
        return user, server.invoke({"model": FOOD, "user_id": food_run.users.ids[user], "k": 5}).json

    with ThreadPoolExecutor(16) as pool:
        for user, answer in pool.map(ask, range(300)):
            assert_top_is(answer, food_run, user, 5)


def test_a_client_that_goes_away_hurts_nobody(server: Server) -> None:
    body = json.dumps({"model": FOOD, "user_id": "u1"}).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    logged = len(server.log.read_text())
    for cut in (head + body, head + body[:5], head[:20]):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
                raw.sendall(cut)
    assert server.invoke({"model": FOOD, "user_id": "u1"}).status == 200
    assert server.log.read_text()[logged:] == ""


def triton_arguments(server: Server) -> dict[str, str]:
    """What the running tritonserver was told, by the name of the argument."""
    triton = children_of(server.process.pid)["tritonserver"]
    words = Path(f"/proc/{triton}/cmdline").read_text().split("\0")
    return {name: value for name, _, value in (word.partition("=") for word in words) if value}


def test_triton_reads_the_exported_configurations(server: Server) -> None:
    """Asked through Triton's own client on its loopback port, which the process's command line names."""
    arguments = triton_arguments(server)
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{arguments['--http-port']}")
    config = client.get_model_config(FOOD)
    assert config["platform"] == "pytorch_libtorch"
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] > 0
    assert config["instance_group"][0]["kind"] in ("KIND_CPU", "KIND_GPU")
    with pytest.raises(tritonclient.utils.InferenceServerException, match="restricted"):
        client.get_inference_statistics(FOOD)
    name, _, key = arguments["--http-restricted-api"].partition(":")[2].partition("=")
    statistics = client.get_inference_statistics(FOOD, headers={name: key})["model_stats"][0]
    assert int(statistics["inference_count"]) >= int(statistics["execution_count"]) > 0
    client.close()


def test_triton_listens_on_the_loopback_interface_only(server: Server) -> None:
    triton = children_of(server.process.pid)["tritonserver"]
    inodes = {link.readlink().name for link in Path(f"/proc/{triton}/fd").iterdir() if link.is_symlink()}
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    assert len(listening) == 2  # HTTP and gRPC; IPv4 addresses, plain or mapped into IPv6
    assert all(address.partition(":")[0].endswith("0100007F") for address in listening)


@pytest.mark.clock
def test_requests_and_pings_at_once(server: Server) -> None:
    stop = threading.Event()
    worst = 0.0

    def load() -> None:
        while not stop.is_set():
            assert server.invoke({"model": FOOD, "user_id": "u5"}).status == 200

    with ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(load) for _ in range(8)]
        for _ in range(50):
            began = time.monotonic()
            assert server.ping() == 200
            worst = max(worst, time.monotonic() - began)
        stop.set()
        for one in busy:
            one.result()
    assert worst < 2  # C21: each ping in less than two seconds
