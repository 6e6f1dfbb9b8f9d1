"""A multi-model endpoint as SageMaker uses one, with the real servers: two workers, and models that wait on demand."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ncf.export.export import export
from ncf.training.run_directory import Run
from tests.support.endpoint import Endpoint, ask, begun, held, outputs
from tests.support.eventually import eventually
from tests.support.small_models import DOUBLE, one, write_model

pytestmark = pytest.mark.e2e

BINARY = "application/vnd.sagemaker-triton.binary+json"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    new = Endpoint(tmp_path_factory.mktemp("endpoint"))
    with new.server:
        new.server.wait_until_ready()
        yield new
        assert new.server.stop() == 0
        assert "Traceback" not in new.server.log.read_text()


def test_c024_c064_it_starts_without_a_model(endpoint: Endpoint) -> None:
    with endpoint.connections() as workers:
        for (worker,) in workers:
            for method, path, body in (("GET", "/ping", b""), ("GET", "/models", b'{"models":[]}')):
                answer = ask(worker, method, path)
                assert (answer.status, answer.body) == (200, body)


def test_c065_to_c077_the_life_of_models_of_both_layouts(endpoint: Endpoint) -> None:
    flat, deep = "a22c461ba4f02e19ed1d8114303b6855", "b-1.2_c"  # E10: with a hyphen
    endpoint.archive(flat)
    endpoint.archive(deep, "food")
    urls = {flat: str(endpoint.root / flat), deep: str(endpoint.root / deep / "model")}  # C74
    with endpoint.connections(3) as workers, ThreadPoolExecutor(6) as pool:
        everyone = [connection for worker in workers for connection in worker]
        for name in (flat, deep):  # C67: of three loads by each worker one succeeds
            wanted = endpoint.wanted(name)
            answers = [*pool.map(lambda connection, body=wanted: ask(connection, "POST", "/models", body), everyone)]
            assert sorted(answer.status for answer in answers) == [200, 409, 409, 409, 409, 409]
            assert [answer.body for answer in answers if answer.status == 200] == [b""]
        for connection, *_ in workers:
            listed = ask(connection, "GET", "/models").json
            assert listed == {"models": [{"modelName": name, "modelUrl": url} for name, url in urls.items()]}
            listed = ask(connection, "GET", f"/models?next_page_token={flat}").json
            assert listed == {"models": [{"modelName": deep, "modelUrl": urls[deep]}]}
            for name, url in urls.items():
                assert ask(connection, "GET", f"/models/{name}").json == {"modelName": name, "modelUrl": url}
                answer = ask(connection, "POST", f"/models/{name}/invoke", one("X", "INT32", 41))
                assert outputs(answer) == [42]
                assert answer.json["model_name"] == name
        (stub,) = endpoint.stubs(flat)
        assert ask(workers[0][0], "DELETE", f"/models/{flat}").status == 200
        assert not Path(f"/proc/{stub}").exists()  # C75: its memory is free
        log = endpoint.server.log.read_text()  # workers load and unload, and what they do is in the one log
        for done in ("loaded from", "unloaded"):
            assert re.search(rf"^serve: {flat}\b.* is {done}", log, re.MULTILINE)
        for connection, *_ in workers:
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/invoke")):
                assert ask(connection, method, f"/models/{flat}{path}", b"{}").status == 404
            assert [each["modelName"] for each in ask(connection, "GET", "/models").json["models"]] == [deep]
        assert ask(workers[1][0], "DELETE", "/models").status == 404
        assert ask(workers[1][0], "POST", "/models", endpoint.wanted(flat)).status == 200
    assert outputs(endpoint.invoke(flat, 1)) == [2]

    def counted() -> bool:
        page = endpoint.server.request("GET", "/metrics").body.decode()
        counts = {(200, 3), (409, 10)}
        return all(f'serve_requests_total{{kind="load",model="",status="{s}"}} {n}.0' in page for s, n in counts)

    eventually(counted)


def test_c076_tensors_in_binary(endpoint: Endpoint) -> None:
    endpoint.archive("binary")
    assert endpoint.load("binary").status == 200
    tensor = {"name": "X", "shape": [1], "datatype": "INT32", "parameters": {"binary_data_size": 4}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    kind = {"Content-Type": f"{BINARY};json-header-size={len(head)}"}
    answer = endpoint.server.request("POST", "/models/binary/invoke", head + struct.pack("<i", 6), kind)
    size = int(answer.headers["content-type"].removeprefix(f"{BINARY};json-header-size="))
    assert struct.unpack("<i", answer.body[size:]) == (7,)


def test_c024_c080c_a_slow_load_and_a_slow_unload_hold_up_nobody(endpoint: Endpoint) -> None:
    slow = endpoint.archive("slow")
    endpoint.archive("quick")
    endpoint.archive("other")
    assert endpoint.load("quick").status == 200
    with endpoint.connections() as workers, ThreadPoolExecutor(2) as pool:

        def nobody_waits() -> None:
            for (worker,) in workers:
                assert ask(worker, "GET", "/ping").status == 200
                listed = {each["modelName"] for each in ask(worker, "GET", "/models").json["models"]}
                assert listed & {"quick", "slow"} == {"quick"}
                assert outputs(ask(worker, "POST", "/models/quick/invoke", one("X", "INT32", 1))) == [2]
                for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/invoke")):
                    assert ask(worker, method, f"/models/slow{path}", b"{}").status == 404

        with held(slow, "loading"):
            load = pool.submit(endpoint.load, "slow")
            begun(slow, "loading")
            nobody_waits()
            assert endpoint.load("other").status == 200
            assert endpoint.delete("other").status == 200
            for (worker,) in workers:
                assert ask(worker, "POST", "/models", endpoint.wanted("slow")).status == 409
            assert not load.done()
        assert load.result().status == 200
        with held(slow, "7"):
            call = pool.submit(endpoint.invoke, "slow", 7)
            begun(slow, "7")
            unload = pool.submit(endpoint.delete, "slow")
            eventually(lambda: "slow" not in endpoint.listed())
            nobody_waits()
            assert not unload.done()
        assert outputs(call.result()) == [8]
        assert unload.result().status == 200


def test_c078_ensembles_whose_parts_share_names(endpoint: Endpoint) -> None:
    for name, factor in (("twice", 2), ("thrice", 3)):
        folder = endpoint.root / name / "model"
        write_model("chain", folder / "chain")
        write_model("double", folder / "double")
        (folder / "double" / "1" / "model.py").write_text(DOUBLE.replace("2 *", f"{factor} *"))
    with ThreadPoolExecutor(2) as pool:
        assert [each.status for each in pool.map(endpoint.load, ("twice", "thrice"))] == [200, 200]
    body = one("IN", "INT32", 5, 6, shape=[1, 2])
    assert outputs(endpoint.call("POST", "/models/twice/invoke", body)) == [10, 12]
    assert endpoint.delete("twice").status == 200
    assert endpoint.stubs("twice", "twice@double") == set()
    assert outputs(endpoint.call("POST", "/models/thrice/invoke", body)) == [15, 18]
    assert endpoint.call("GET", "/models/thrice@double").status == 404  # what is inside cannot be asked
    assert endpoint.call("POST", "/models/thrice@double/invoke", body).status == 404


def test_c077_a_recommender_answers_ids(endpoint: Endpoint, food_run: Run) -> None:
    export(food_run, endpoint.root / "shop" / "model", "ncf_food_model")
    assert endpoint.load("shop", "ncf_food_model.model.tar.gz").status == 200
    body = json.dumps({"user_id": food_run.users.ids[0], "k": 3}).encode()
    with endpoint.connections() as workers:
        for (worker,) in workers:
            answer = ask(worker, "POST", "/models/shop/invoke", body)
            assert answer.status == 200
            assert {each["item_id"] for each in answer.json["recommendations"]} <= set(food_run.items.ids)
    assert endpoint.delete("shop").status == 200
    assert endpoint.call("POST", "/models/shop/invoke", body).status == 404
