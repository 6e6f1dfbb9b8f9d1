"""Loading and unloading, against a Triton of our own whose loads wait or fail when the test asks for it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.errors import BadRequest, Conflict, OutOfMemory, Unavailable, UnknownModel
from serve.models.multi_model import MultiModel
from serve.triton.admin import LoadFailed
from tests.support.eventually import eventually
from tests.support.multi_model import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


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
    assert house.triton.loads == ["a"]  # Triton loads the models that an ensemble needs with it
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
        models = MultiModel(house.root, house.scratch)  # every worker has one of its own
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
    house.triton.states["a@part"] = "READY"  # Triton had loaded this part already
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


def test_an_unload_outlives_a_restart_of_triton(house: House) -> None:
    house.archive("a")
    house.load("a")
    house.triton.away = True
    with ThreadPoolExecutor(1) as pool:
        unload = pool.submit(house.unload, "a")
        eventually(lambda: "a" in house.served.unloading)
        house.triton.states["a"] = "READY"  # the new Triton loads it again
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
    house.care.tidy(house.triton)
    assert house.shown == set()


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
