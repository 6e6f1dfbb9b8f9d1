"""Loading and unloading against a Triton of our own, which does what it is told when it is told."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serve.errors import BadRequest, OutOfMemory, Unavailable, UnknownModel
from serve.models.multi_model import Conflict, MultiModel
from serve.models.served import SERVED_FILE, VIEW_FOLDER, Served, ServedFile, changing
from serve.processes import claim
from serve.settings import Settings
from serve.triton.admin import LoadFailed, ModelState, TritonAdmin
from serve.worker.control_plane import create_control_plane

ENSEMBLE = 'platform: "ensemble"\nensemble_scheduling { step [ { model_name: "part" model_version: -1 } ] }\n'


class FakeTriton(TritonAdmin):
    """`fails` has what loading a model raises; `gate` holds loads back; an unload takes a few looks at the index."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.looks_until_gone: dict[str, int] = {}
        self.fails: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.away = False
        self.stuck = False
        self.loads: list[str] = []

    def index(self) -> list[ModelState]:
        if self.away:
            raise Unavailable("away")
        for name in [name for name, state in self.states.items() if state == "UNLOADING" and not self.stuck]:
            self.looks_until_gone[name] -= 1
            if self.looks_until_gone[name] <= 0:
                self.states[name] = "UNAVAILABLE"
        return [ModelState(name, "1", state, "unloaded") for name, state in self.states.items()]

    def load(self, name: str) -> None:
        self.loads.append(name)
        self.states[name] = "LOADING"
        assert self.gate.wait(20)
        if name in self.fails:
            self.states[name] = "UNAVAILABLE"
            raise self.fails[name]
        self.states[name] = "READY"

    def unload(self, name: str) -> None:
        if self.away:
            raise Unavailable("away")
        self.states[name] = "UNLOADING"
        self.looks_until_gone[name] = 3


class House:
    """A root with archives, the folder that is shared, and one worker's view of both."""

    def __init__(self, path: Path) -> None:
        self.root, self.scratch = path / "root", path / "scratch"
        self.root.mkdir()
        self.scratch.mkdir()
        self.triton = FakeTriton()
        self.models = MultiModel(self.root, self.scratch)
        self.models.lay_out()
        assert self.models.settle(self.triton) == []

    def archive(self, name: str, ensemble: bool = False) -> str:
        folder = self.root / name / "model"
        for model in ("whole", "part") if ensemble else ("plain",):
            (folder / model / "1").mkdir(parents=True)
            (folder / model / "config.pbtxt").write_text(ENSEMBLE if model == "whole" else "")
        return str(folder)

    def load(self, name: str, target: str = "") -> None:
        self.models.load(self.triton, name, str(self.root / name / "model"), target)

    def unload(self, name: str, target: str = "") -> None:
        self.models.unload(self.triton, name, target)

    @property
    def served(self) -> Served:
        return Served.read(self.models.file)

    @property
    def shown(self) -> set[str]:
        return {path.name for path in self.models.view.folder.iterdir()}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def eventually(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def test_c065_c075_a_model_comes_and_goes_and_leaves_nothing(house: House) -> None:
    house.archive("a", ensemble=True)
    before = house.served
    house.load("a", "a.tar.gz")
    served = house.served
    assert served.urls == {"a": str(house.root / "a" / "model")}
    assert served.targets == {"a": "a.tar.gz"}
    assert served.models == ("a",)
    assert served.parts == {"a": ["a", "a@part"]}
    assert house.shown == {"a", "a@part"}
    assert house.triton.loads == ["a"]  # Triton loads what an ensemble needs with it
    house.triton.states["a@part"] = "READY"
    house.unload("a")
    assert house.served == before
    assert house.shown == set()
    assert set(house.triton.states.values()) == {"UNAVAILABLE"}
    with pytest.raises(UnknownModel):
        house.unload("a")
    house.load("a")


def test_c067_one_of_many_concurrent_loads_wins(house: House) -> None:
    house.archive("a")
    house.triton.gate.clear()

    def load(number: int) -> str:
        models = MultiModel(house.root, house.scratch)  # as every worker has its own
        try:
            models.load(house.triton, "a", str(house.root / "a" / "model"))
        except Conflict as error:
            house.triton.gate.set()
            return str(error)
        return "loaded"

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(load, range(8)))
    assert ends.count("loaded") == 1
    assert {end for end in ends if end != "loaded"} <= {"a is being loaded already", "a is loaded already"}
    assert house.triton.loads == ["a"]


def test_c080c_a_slow_load_holds_up_nobody(house: House) -> None:
    house.archive("slow")
    house.archive("quick")
    house.load("quick")
    house.triton.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(house.load, "slow")
        eventually(lambda: "slow" in house.served.loading)
        assert house.served.models == ("quick",)
        with pytest.raises(UnknownModel):
            house.unload("slow")
        house.unload("quick")
        house.triton.gate.set()
        slow.result(20)
    assert house.served.models == ("slow",)


def test_a_load_waits_for_the_end_of_an_unload(house: House) -> None:
    house.archive("a")
    house.load("a")
    house.triton.stuck = True
    with ThreadPoolExecutor(2) as pool:
        unload = pool.submit(house.unload, "a")
        eventually(lambda: "a" in house.served.unloading)
        assert house.served.models == ()
        load = pool.submit(house.load, "a")
        time.sleep(0.1)
        assert not load.done()
        house.triton.stuck = False
        unload.result(20)
        load.result(20)
    assert house.served.models == ("a",)


@pytest.mark.parametrize(
    ("reason", "error"), [("no module named x", BadRequest), ("Internal: CUDA out of memory", OutOfMemory)]
)
def test_c068_e11_a_load_that_fails_says_why_and_leaves_nothing(
    house: House, reason: str, error: type[Exception]
) -> None:
    house.archive("a", ensemble=True)
    before = house.served
    house.triton.states["a@part"] = "READY"  # Triton had come that far
    house.triton.fails["a"] = LoadFailed(f"{reason}\n\nAt:\n  {house.models.view.folder}/a/1/model.py(3)\n;\n")
    with pytest.raises(error, match=reason) as failed:
        house.load("a")
    assert str(failed.value).endswith(f"At:\n  {house.root}/a/model/whole/1/model.py(3)")
    assert house.served == before
    assert house.shown == set()
    assert house.triton.states["a@part"] == "UNAVAILABLE"
    house.triton.fails.clear()
    house.load("a")


def test_c068_a_load_in_which_the_kernel_killed_something(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.archive("a")
    kills = iter([4, 5])
    monkeypatch.setattr("serve.models.multi_model.oom_kills", lambda: next(kills))
    house.triton.fails["a"] = Unavailable("tritonserver itself was killed")
    with pytest.raises(OutOfMemory):
        house.load("a")


def test_a_load_that_triton_went_away_from_is_cleaned_up_when_it_is_back(house: House) -> None:
    house.archive("a")
    house.triton.fails["a"] = Unavailable("gone")
    with pytest.raises(Unavailable):
        house.load("a")
    assert house.served.loading == {}
    assert house.shown == {"a"}
    house.triton.states["a"] = "READY"  # the new one loaded it
    house.models.pause()
    house.models.tidy(house.triton)
    assert house.shown == {"a"}  # not now
    house.models.settle(house.triton)
    house.models.tidy(house.triton)
    assert house.shown == set()
    assert house.triton.states["a"] == "UNAVAILABLE"
    assert house.served.unloading == {}


def test_a_load_across_a_restart_of_triton_is_none(house: House) -> None:
    house.archive("a")
    house.archive("b")
    house.triton.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(house.load, "a")
        eventually(lambda: house.triton.loads == ["a"])
        house.models.pause()
        with pytest.raises(Unavailable):
            house.load("b")
        house.models.settle(house.triton)
        house.triton.gate.set()
        with pytest.raises(Unavailable, match="went away"):
            load.result(20)
    assert house.served.models == ()


def test_after_a_restart_models_that_did_not_come_back_are_loaded_no_longer(house: House) -> None:
    for name in ("a", "b", "c"):
        house.archive(name, ensemble=name == "a")
        house.load(name)
    house.triton.states["a@part"] = "READY"
    assert house.models.to_load() == ["a", "a@part", "b", "c"]
    house.models.pause()
    house.triton.states |= {"a@part": "UNAVAILABLE", "b": "READY"}
    del house.triton.states["c"]
    assert house.models.settle(house.triton) == ["a", "c"]
    assert house.served.models == ("b",)
    assert house.served.ready
    house.models.tidy(house.triton)
    assert house.shown == {"b"}


def test_an_unload_outlives_a_restart_of_triton(house: House) -> None:
    house.archive("a")
    house.load("a")
    house.triton.away = True
    with ThreadPoolExecutor(1) as pool:
        unload = pool.submit(house.unload, "a")
        eventually(lambda: "a" in house.served.unloading)
        house.triton.states["a"] = "READY"  # the new one was told to load it
        house.triton.away = False
        unload.result(20)
    assert house.triton.states["a"] == "UNAVAILABLE"


def test_an_unload_that_takes_too_long_is_said_and_finished_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.archive("a")
    house.load("a")
    house.triton.stuck = True
    monkeypatch.setattr("serve.models.multi_model.UNLOAD_SECONDS", 0.05)
    with pytest.raises(Unavailable, match="still being unloaded"):
        house.unload("a")
    house.triton.stuck = False
    house.models.tidy(house.triton)
    assert house.shown == set()


def _claim_and_die(file: Path, name: str) -> None:
    with changing(file) as served:
        served.loading[name] = claim()
        served.unloading[f"{name}2"] = claim()


def test_the_claims_of_a_process_that_died_are_void(house: House) -> None:
    house.archive("a")
    house.archive("a2")
    died = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(house.models.file, "a"))
    died.start()
    died.join(30)
    assert set(house.served.loading) == {"a"}
    house.load("a")
    house.load("a2")
    assert house.served.models == ("a", "a2")
    with changing(house.models.file) as served:
        served.loading["b"] = "1 1"
    house.models.tidy(house.triton)
    assert house.served.loading == {}


def test_c080b_e9_target_models(house: House) -> None:
    for name, target in (("a", "t.tar.gz"), ("b", "t.tar.gz"), ("c", "")):
        house.archive(name)
        house.load(name, target)
    served = house.served
    for name, header in (("a", "t.tar.gz"), ("a", ""), ("a", None), ("c", "any")):
        served.check_target(name, header)
    with pytest.raises(BadRequest, match="does not match"):
        served.check_target("a", "u.tar.gz")
    with pytest.raises(BadRequest, match="does not match"):
        house.unload("a", "u.tar.gz")
    assert house.served == served
    house.unload("a", "t.tar.gz")
    house.unload("b")
    house.unload("c", "any")


def flask_of(house: House, **environment: str) -> Any:
    served = ServedFile(house.scratch / SERVED_FILE, house.scratch / VIEW_FOLDER)
    settings = Settings.from_environment({"SERVE_MULTI_MODEL_ROOT": str(house.root), **environment})
    return create_control_plane(settings, served, house.triton).test_client()


def test_c071_to_c073_models_are_listed_in_pages(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client = flask_of(house, SAGEMAKER_MULTI_MODEL="true")
    monkeypatch.setattr("serve.worker.control_plane.MODELS_PER_PAGE", 2)
    assert client.get("/models").json == {"models": []}
    for name in ("e", "b", "d", "a", "c"):
        house.archive(name)
        answer = client.post("/models", json={"model_name": name, "url": str(house.root / name / "model")})
        assert (answer.status_code, answer.data) == (200, b"")
    pages, query = [], ""
    while True:
        page = client.get(f"/models{query}").json
        pages.append([model["modelName"] for model in page["models"]])
        assert all(set(model) == {"modelName", "modelUrl"} for model in page["models"])
        if "nextPageToken" not in page:
            break
        query = f"?next_page_token={page['nextPageToken']}"
    assert pages == [["a", "b"], ["c", "d"], ["e"]]
    assert client.get("/models?next_page_token=zzz").json == {"models": []}
    assert client.get("/models?next_page_token=b%00%ff").json["models"]
    assert client.get("/models/c").json == {"modelName": "c", "modelUrl": str(house.root / "c" / "model")}
    assert client.get("/models/x").status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is no JSON"), (b"{", "is no JSON"), (b"\xff", "is no JSON"), (b"[" * 9000, "is no JSON"),
        (b"[]", "a list"), (b"null", "null"), (b"1e999", "JSON"), (b"{}", "model_name is missing"),
        (b'{"model_name": "a"}', "url is missing"), (b'{"model_name": 1, "url": ""}', "model_name is 1"),
        (b'{"model_name": "../a", "url": ""}', "model_name is '../a'"),
        (b'{"model_name": "a@b", "url": ""}', "model_name is 'a@b'"),
        (b'{"model_name": "a", "url": {}}', "url is an object"),
        (b'{"model_name": "a", "url": "/etc"}', "url is '/etc'"),
    ],
)  # fmt: skip
def test_c080_a_body_that_cannot_be_used_is_refused(house: House, body: bytes, said: str) -> None:
    answer = flask_of(house, SAGEMAKER_MULTI_MODEL="true").post("/models", data=body)
    assert answer.status_code == 400
    assert answer.json["code"] == "bad_request"
    assert said in answer.json["error"]


def test_c075_methods_that_paths_do_not_take(house: House) -> None:
    client = flask_of(house, SAGEMAKER_MULTI_MODEL="true")
    for method, path, status, allowed in (
        ("PUT", "/models", 405, "GET"), ("DELETE", "/models", 404, None), ("POST", "/models/x", 405, "DELETE"),
        ("GET", "/models/x/invoke", 405, "POST"), ("GET", "/modelsfoo", 404, None), ("GET", "/models/", 404, None),
        ("DELETE", "/models/x", 404, None), ("DELETE", "/models/x/y", 404, None),
    ):  # fmt: skip
        answer = client.open(path, method=method)
        assert (method, path, answer.status_code) == (method, path, status)
        assert set(answer.json) == {"error", "code"}
        if allowed:
            assert allowed in answer.headers["Allow"]


def test_single_model_mode_says_that_the_other_is_off(house: House) -> None:
    house.triton.states = {"m": "READY"}
    client = flask_of(house, SERVE_MODEL_REPOSITORY="/repository")
    assert client.get("/models/m").json == {"modelName": "m", "modelVersion": "1", "modelUrl": "/repository/m"}
    assert client.get("/models/x").status_code == 404
    for method, path in (("POST", "/models"), ("DELETE", "/models"), ("DELETE", "/models/m")):
        answer = client.open(path, method=method)
        assert answer.status_code == 405
        assert "SAGEMAKER_MULTI_MODEL=true" in answer.json["error"]
