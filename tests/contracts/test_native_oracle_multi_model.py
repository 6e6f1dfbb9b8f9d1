"""`serve` as a multi-model endpoint against Triton's own SageMaker endpoint as one, call by call."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contracts.oracle import Allowed, Native, Pair, Request, assert_alike, assert_ours, binary, send
from tests.support.eventually import eventually
from tests.support.serving import Server
from tests.support.small_models import asked, left, one, raw_tensor, sums, write_model

pytestmark = pytest.mark.e2e

ERROR, EMPTY, CONTENT = "application/json error", "text/plain empty", "application/json content"
# Every difference that is meant; "table" is the contract's table of native answers. One that is gone fails its test.
ALLOWED = {
    "POST ping": Allowed("C25", "AWS says the container must accept it", "405 text/plain error", f"200 {EMPTY}"),
    "list": Allowed("C71", "JSON says that it is JSON", "200 text/plain content", f"200 {CONTENT}", same_content=True),
    "get": Allowed("C73", "JSON says that it is JSON", "200 text/plain content", f"200 {CONTENT}", same_content=True),
    "unknown": Allowed("C76", "404 says why", f"404 {EMPTY}", f"404 {ERROR}"),
    "400": Allowed("table", "an error in JSON says that it is JSON", "400 text/plain error", f"400 {ERROR}"),
    "409": Allowed("C67", "an error in JSON says that it is JSON", "409 text/plain error", f"409 {ERROR}"),
    "507": Allowed("C68", "an error in JSON says that it is JSON", "507 text/plain error", f"507 {ERROR}"),
    "fault": Allowed("table", "a model's fault is 500", "400 text/plain error", "500 text/plain error"),
    "decoupled": Allowed("C63", "501, as with a single model", f"400 {ERROR}", "501 text/plain error"),
    "method": Allowed("table", "another method is 405", f"400 {EMPTY}", f"405 {ERROR}"),
    "method HEAD": Allowed("table", "the list without its body", f"400 {EMPTY}", "200 application/json empty"),
    "GET invoke": Allowed("table", "GET …/invoke is 405", "200 text/plain content", f"405 {ERROR}"),
    "GET invoke unknown": Allowed("table", "GET …/invoke is 405", f"404 {EMPTY}", f"405 {ERROR}"),
    "POST model": Allowed("table", "POST /models/x loads nothing", "400 text/plain error", f"405 {ERROR}"),
    "path": Allowed("table", "an unknown path is 404, in JSON", f"400 {EMPTY}", f"404 {ERROR}"),
    "loose path": Allowed("table", "/modelsfoo is no path", "400 text/plain error", f"404 {ERROR}"),
    "parameters": Allowed("C84", "/execution-parameters is there", f"400 {EMPTY}", f"200 {CONTENT}"),
    "405": Allowed("C34", "an error in JSON says that it is JSON", "405 text/plain error", f"405 {ERROR}"),
    "ping": Allowed("E3", "a load that failed says nothing about the others", f"400 {EMPTY}", f"200 {EMPTY}"),
    "empty entries": Allowed("E4", "all models are listed", "200 text/plain content", f"200 {CONTENT}"),
    "no header": Allowed("E5", "Target-Model need not be repeated", f"400 {ERROR}", f"200 {CONTENT}"),
    "header": Allowed("C66", "Target-Model is for logging", f"400 {ERROR}", f"200 {CONTENT}"),
    "name": Allowed("C80d", "the answer names the model by its hash", f"200 {CONTENT}", f"200 {CONTENT}"),
    "deputy": Allowed("E8", "another model's Target-Model is refused", f"200 {CONTENT}", f"400 {ERROR}"),
    "same target": Allowed("E9", "two hashes may share a Target-Model", "409 text/plain error", f"200 {EMPTY}"),
    "outside": Allowed("E10", "only what is below the root is loaded", f"200 {EMPTY}", f"400 {ERROR}"),
}  # fmt: skip

TARGET = "X-Amzn-SageMaker-Target-Model"
ARCHIVES = {  # what each holds below model/, by the folder; "" is model/ itself
    "sums": {"sums": "sums"}, "other": {"sums": "sums"}, "twin": {"sums": "sums"}, "copy": {"sums": "sums"},
    "busy": {"sums": "sums"}, "broken": {"broken": "broken"}, "starved": {"starved": "starved"}, "flat": {"": "sums"},
    "double": {"double": "double"}, "repeat": {"repeat": "repeat"}, "ensemble": {"double": "double", "top": "chain"},
}  # fmt: skip
HASH = {kind: f"{number:032x}" for number, kind in enumerate([*ARCHIVES, "nothing"], 0xA22C461B)}


@dataclass(frozen=True)
class Endpoints:
    """Both endpoints, and the folder both load from."""

    pair: Pair
    root: Path

    def load(self, kind: str, target: str = "", differs: str = "") -> Request:
        body = {"model_name": HASH[kind], "url": str(self.root / HASH[kind] / "model")}
        name = f"load {kind} with '{target}'"
        return Request(name, path="/models", body=json.dumps(body).encode(), headers=headers(target), differs=differs)

    def alike(self, *requests: Request) -> None:
        assert_alike(self.pair, requests, ALLOWED)


def headers(target: str) -> Mapping[str, str]:
    return {TARGET: target} if target else {}


def about(method: str, kind: str, target: str = "", differs: str = "") -> Request:
    path = f"/models/{HASH.get(kind, kind)}"
    return Request(f"{method} {kind} with '{target}'", method, path, headers=headers(target), differs=differs)


def invoke(kind: str, body: bytes, target: str = "", differs: str = "") -> Request:
    path = f"/models/{HASH.get(kind, kind)}/invoke"
    name = f"invoke {kind} with '{target}': {body[:40]!r}"
    return Request(name, path=path, body=body, headers=headers(target), differs=differs)


def get(path: str, differs: str = "", method: str = "GET") -> Request:
    return Request(f"{method} {path}", method, path, differs=differs)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    root, empty = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("empty")
    for archive, models in ARCHIVES.items():
        for folder, kind in models.items():
            write_model(kind, root / HASH[archive] / "model" / folder)
    (root / HASH["nothing"] / "model").mkdir(parents=True)
    multi = {"SAGEMAKER_MULTI_MODEL": "true", "SERVE_MULTI_MODEL_ROOT": str(root)}
    with ExitStack() as stack:
        servers = stack.enter_context(Native(empty)), stack.enter_context(Server(empty, **multi))
        for server in servers:
            stack.callback(server.process.terminate)
            server.wait_until_ready()
        yield Endpoints(Pair(servers[0].port, servers[1].port, servers[1].log), root)


def test_c064_c071_before_anything_is_loaded(both: Endpoints) -> None:
    both.alike(
        get("/ping"), get("/ping", "POST ping", "POST"), get("/ping", "405", "PUT"),
        get("/models", "list"), get("/models?next_page_token=x", "list"),
        get("/models", "method HEAD", "HEAD"), get("/models", "method", "PUT"), get("/models", "method", "PATCH"),
        get("/models", "unknown", "DELETE"), get("/modelsfoo", "unknown"), get("/modelsfoo", "unknown", "DELETE"),
        get("/modelsfoo", "loose path", "POST"), get("/", "path"), get("/v2/models", "path"),
        get("/invocations", "405"), get("/execution-parameters", "parameters"),
    )  # fmt: skip


def test_c073_c075_c076_of_what_is_not_loaded(both: Endpoints) -> None:
    for name in ("nope", HASH["sums"], "..", "%C3%A9"):
        both.alike(
            get(f"/models/{name}", "unknown"), get(f"/models/{name}", "unknown", "DELETE"),
            get(f"/models/{name}", "method", "PUT"), invoke(name, sums(), differs="unknown"),
            get(f"/models/{name}/invoke", "GET invoke unknown"), get(f"/models/{name}", "POST model", "POST"),
            get(f"/models/{name}/x", "path"), get(f"/models/{name}/x", "path", "POST"),
            get(f"/models/{name}/", "path"),
        )  # fmt: skip


def test_c080_loads_that_are_refused(both: Endpoints) -> None:
    def ask(**document: object) -> Request:
        return Request(f"load {document}", path="/models", body=json.dumps(document).encode(), differs="400")

    for body in (b"", b"[]", b"1", b"null", b'"x"', b"{}", b'{"model_name":"x","model_name":"y"}'):
        both.alike(Request(f"load {body!r}", path="/models", body=body, differs="400"))
    url = str(both.root / HASH["sums"] / "model")
    both.alike(
        ask(model_name="x"), ask(url=url), ask(model_name="", url=url), ask(model_name="x", url=""),
        ask(model_name="x", url="relative"), ask(model_name="x", url="/dev/shm"), ask(model_name="x", url="/proc/self"),
        ask(model_name="x", url="/sys"), ask(model_name="x", url="/etc"), ask(model_name="x", url=f"{url}/../../nope"),
        ask(model_name="x", url=f"{both.root}/nope/model"), ask(model_name="x", url=f"{url}/sums/config.pbtxt"),
        both.load("nothing", differs="400"),
        get("/models", "list"),
    )  # fmt: skip


def test_c065_to_c077_the_life_of_a_model(both: Endpoints) -> None:
    tensors = asked(raw_tensor("LEFT"), raw_tensor("RIGHT"), parameters={"binary_data_output": True})
    whole = binary(tensors, struct.pack("<6i", *range(1, 7)))
    path = f"/models/{HASH['sums']}/invoke"
    both.alike(
        both.load("sums"), get("/ping"), get("/models", "list"), about("GET", "sums", differs="get"),
        get(path, "GET invoke"), get(f"/models/{HASH['sums']}/", "path"), get(path, "method", "PUT"),
        invoke("sums", sums()), invoke("sums", sums(id="a")), invoke("sums", sums(outputs=[{"name": "SUM"}])),
        Request("binary", path=path, **whole), Request("chunked", path=path, chunks=(sums()[:9], sums()[9:])),
        Request("octet-stream", path=path, body=sums(), headers={"Content-Type": "application/octet-stream"}),
        Request("binary, size -1", path=path, **binary(tensors, b"", -1)),
        invoke("sums", b""), invoke("sums", b"{"), invoke("sums", b"[]"), invoke("sums", sums() + sums()),
        invoke("sums", left(name="nope")), invoke("sums", left(data=[1])), invoke("sums", left(data=["a"])),
        *(invoke("sums", left(data=[number, 2, 3]), differs="fault") for number in (666, 669)),
        *(invoke("sums", left(data=[number, 2, 3]), differs="507") for number in (667, 668)),
        invoke("sums", sums(), "any.tar.gz", differs="header"),
        both.load("sums", differs="409"), both.load("sums", "any.tar.gz", differs="409"), invoke("sums", sums()),
        about("DELETE", "sums"), about("DELETE", "sums", differs="unknown"), about("GET", "sums", differs="unknown"),
        invoke("sums", sums(), differs="unknown"), get("/models", "list"), both.load("sums"), invoke("sums", sums()),
    )  # fmt: skip


def test_c067_of_loads_at_the_same_time_one_succeeds(both: Endpoints) -> None:
    def statuses(port: int) -> list[int]:
        with ThreadPoolExecutor(3) as pool:
            return sorted(pool.map(lambda _: send(port, both.load("twin")).status, range(3)))

    assert statuses(both.pair.native) == statuses(both.pair.ours) == [200, 409, 409]


def test_c049_c063_c078_models_of_other_kinds(both: Endpoints) -> None:
    three = {"shape": [1, 3]}
    both.alike(
        both.load("double"), invoke("double", one("NUMBER", "INT32", 1, 2, 3, **three)),
        Request("raw", path=f"/models/{HASH['double']}/invoke", **binary(b"", b"1234")),
        both.load("repeat"), invoke("repeat", one("IN", "INT32", 1), differs="decoupled"),
        both.load("ensemble"), invoke("ensemble", one("IN", "INT32", 1, 2, 3, **three)),
        about("GET", "ensemble", differs="get"), about("DELETE", "ensemble"),
        invoke("double", one("NUMBER", "INT32", 1, 2, 3, **three)),  # not the ensemble's own, which has gone
    )  # fmt: skip


def test_c068_e3_failed_loads(both: Endpoints) -> None:
    both.alike(
        both.load("broken", differs="400"), get("/ping", "ping"), both.load("broken", "b.tar.gz", differs="400"),
        both.load("starved", differs="507"), get("/ping", "ping"), about("GET", "broken", differs="unknown"),
        about("DELETE", "starved", differs="unknown"),
    )  # fmt: skip


def test_c079_c080b_e4_e5_e8_e9_target_model(both: Endpoints) -> None:
    both.alike(
        both.load("other", "food.tar.gz"), get("/models", "empty entries"), about("GET", "other", differs="get"),
        invoke("other", sums(), "food.tar.gz", differs="name"), invoke("other", sums(), differs="no header"),
        invoke("other", sums(), "nope.tar.gz"), invoke("other", sums(), "FOOD.tar.gz"),
        both.load("busy", "fashion.tar.gz"), invoke("other", sums(), "fashion.tar.gz", differs="deputy"),
        both.load("copy", "food.tar.gz", differs="same target"),
    )  # fmt: skip
    listed = send(both.pair.ours, get("/models")).content["models"]
    url = f"{both.root}/{HASH['other']}/model"
    assert {"modelName": HASH["other"], "modelUrl": url} in listed
    assert all(set(entry) == {"modelName", "modelUrl"} for entry in listed)
    expected = [
        (about("DELETE", "other", "fashion.tar.gz"), f"400 {ERROR}"),  # C80b
        (about("DELETE", "other"), f"200 {EMPTY}"),  # E5: native waits for minutes
        (about("GET", "other"), f"404 {ERROR}"),
    ]
    assert_ours(both.pair.ours, expected)


def test_e10_a_model_outside_of_the_root(both: Endpoints, tmp_path: Path) -> None:
    write_model("double", tmp_path / "model" / "double")
    body = json.dumps({"model_name": "outside", "url": str(tmp_path / "model")}).encode()
    both.alike(Request("load", path="/models", body=body, differs="outside"))
    # Native unloads it, which it loaded, but not always: once it gave no answer.
    assert_ours(both.pair.ours, [(about("DELETE", "outside"), f"404 {ERROR}")])


def test_c077_a_configuration_at_the_top(both: Endpoints) -> None:
    """Native does this below /opt/ml/models only, where it answers the same."""
    assert_ours(both.pair.ours, [(both.load("flat"), f"200 {EMPTY}"), (invoke("flat", sums()), f"200 {CONTENT}")])
    url = f"{both.root}/{HASH['flat']}"  # C74
    assert send(both.pair.ours, about("GET", "flat")).content == {"modelName": HASH["flat"], "modelUrl": url}


def test_e6_bodies_that_native_dies_of(both: Endpoints) -> None:
    deep, url = b"[" * 300, b"%a" % str(both.root / HASH["double"] / "model")
    wrong = [b"{", b"x", b"\xff", b'{"model_name":1}', b'{"model_name":null}', b'{"model_name":"x","url":1}', deep]
    wrong += [b'{"model_name":"%s","url":%s}' % (name, url.replace(b"'", b'"')) for name in (b"..", b"x/y", b"")]
    expected = [(Request(f"load {body!r}", path="/models", body=body), f"400 {ERROR}") for body in wrong]
    assert_ours(both.pair.ours, [*expected, (get("/ping"), f"200 {EMPTY}")])


def test_e7_an_unload_waits_for_the_call_in_flight(both: Endpoints) -> None:
    """Native answers neither of the two."""
    ours, marker = both.pair.ours, both.root / HASH["busy"] / "model" / "sums" / "1" / "busy"
    send(ours, both.load("busy"))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(send, ours, invoke("busy", left(data=[670, 2, 3])))
        eventually(marker.exists)
        unloaded = send(ours, about("DELETE", "busy"))
        assert (unloaded.kind, call.result().kind) == (f"200 {EMPTY}", f"200 {CONTENT}")


def test_every_allowed_difference_has_a_request() -> None:
    source = Path(__file__).read_text()
    assert [name for name in ALLOWED if source.count(f'"{name}"') < 2] == []
