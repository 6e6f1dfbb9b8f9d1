"""The real tritonserver behind the real gunicorn, asked over HTTP."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import tritonclient.http

from ncf.training.run_directory import Run
from tests.support.serving import Server, children_of
from tests.whole.conftest import FOOD, assert_top_is, kserve, offline_scores

pytestmark = [pytest.mark.e2e, pytest.mark.core]


@pytest.fixture(scope="module")
def small_server(one_model: Path) -> Iterator[Server]:
    """For the tests that measure time: they run alone, and nothing but this model is trained and loaded for them."""
    with Server(one_model) as running:
        running.wait_until_ready()
        yield running


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


def test_binary_outputs_come_with_the_length_of_their_header(server: Server, food_run: Run) -> None:
    document = kserve([3], [8], parameters={"binary_data_output": True})
    answer = server.invoke(document, {"X-Amzn-SageMaker-Target-Model": FOOD})
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["name"] == "score"
    (score,) = struct.unpack("<f", answer.body[length:])
    assert score == pytest.approx(offline_scores(food_run, [3], [8])[0], abs=1e-5)


def test_chunked_bodies_and_kept_alive_connections(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = json.dumps({"model": FOOD, "user_id": "u1", "k": 1}).encode()
    for _ in range(3):
        connection.request("POST", "/invocations", iter([body[:9], body[9:]]), encode_chunked=True)
        assert len(json.loads(connection.getresponse().read())["recommendations"]) == 1
    connection.close()


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
    assert server.invoke(b"{}", {"Content-Encoding": "br"}).status == 415


@pytest.mark.clock
def test_c039_a_gzip_bomb_is_refused_at_once(small_server: Server) -> None:
    bomb = gzip.compress(b" " * 2**28)
    began = time.monotonic()
    answer = small_server.invoke(bomb, {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"})
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert time.monotonic() - began < 2


def test_control_plane_lists_what_is_loaded_and_what_is_not(server: Server, repository: Path) -> None:
    listed = server.request("GET", "/models").json
    names = [model["modelName"] for model in listed["models"]]
    assert set(names) == {each for name in (FOOD, "ncf_fashion_model", "tiny") for each in (name, f"{name}_query")} | {
        "tiny_topk"
    }  # its export was asked for that
    assert listed["models"][0]["modelUrl"].startswith(str(repository))
    (broken,) = listed["unavailable"]
    assert (broken["modelName"], broken["modelVersion"]) == ("broken", "1")
    assert re.search("cannot be loaded as TorchScript|failed to load model", broken["reason"])  # the two backends
    parameters = server.request("GET", "/execution-parameters").json
    assert parameters["BatchStrategy"] == "MULTI_RECORD"
    assert parameters["MaxConcurrentTransforms"] * parameters["MaxPayloadInMB"] <= 100


def test_many_callers_get_each_their_own_answer(server: Server, food_run: Run) -> None:
    def ask(user: int) -> tuple[int, dict[str, Any]]:
        return user, server.invoke({"model": FOOD, "user_id": food_run.users.ids[user], "k": 5}).json

    with ThreadPoolExecutor(16) as pool:
        for user, answer in pool.map(ask, range(300)):
            assert_top_is(answer, food_run, user, 5)


def test_pairs_that_come_at_once_go_to_triton_together_and_each_caller_gets_its_own(
    server: Server, food_run: Run
) -> None:
    def calls() -> int:
        arguments = triton_arguments(server)
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{arguments['--http-port']}")
        name, _, key = arguments["--http-restricted-api"].partition(":")[2].partition("=")
        (statistics,) = client.get_inference_statistics(FOOD, headers={name: key})["model_stats"]
        client.close()
        return int(statistics["inference_stats"]["success"]["count"])

    before, callers = calls(), 64
    connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(callers)]
    gunicorn = children_of(server.process.pid)["gunicorn"]
    workers = [int(pid) for pid in Path(f"/proc/{gunicorn}/task/{gunicorn}/children").read_text().split()]
    for pid in workers:  # stopped, so that all requests wait when they go on, however slow this process is
        os.kill(pid, signal.SIGSTOP)
    for user, connection in enumerate(connections):
        pairs = [{"user_id": food_run.users.ids[user], "item_id": food_run.items.ids[user % 7]}] * (1 + user % 3)
        connection.request("POST", "/invocations", json.dumps({"model": FOOD, "pairs": pairs}).encode())
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    for user, connection in enumerate(connections):
        scores = json.loads(connection.getresponse().read())["scores"]
        connection.close()
        assert scores == pytest.approx(offline_scores(food_run, [user], [user % 7]) * (1 + user % 3), abs=1e-5)
    assert calls() - before < callers


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
    assert config["dynamic_batching"]["preferred_batch_size"] == [64, 1024]
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
    assert len(listening) == 3  # HTTP, gRPC and metrics; IPv4 addresses, plain or mapped into IPv6
    assert all(address.partition(":")[0].endswith("0100007F") for address in listening)


@pytest.mark.clock
def test_requests_and_pings_at_once(small_server: Server) -> None:
    stop = threading.Event()
    worst = 0.0

    def load() -> None:
        while not stop.is_set():
            assert small_server.invoke({"user_id": "user 5"}).status == 200

    with ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(load) for _ in range(8)]
        for _ in range(50):
            began = time.monotonic()
            assert small_server.ping() == 200
            worst = max(worst, time.monotonic() - began)
        stop.set()
        for one in busy:
            one.result()
    assert worst < 2  # C21: each ping in less than two seconds
