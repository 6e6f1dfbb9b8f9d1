"""The supervisor's part of a multi-model endpoint, against a Triton of our own."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.errors import Unavailable
from serve.models.served import changing
from serve.processes import claim
from tests.support.eventually import eventually
from tests.support.multi_model import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_load_that_triton_went_away_from_is_cleaned_up_when_it_is_back(house: House) -> None:
    house.archive("a")
    house.triton.fails["a"] = Unavailable("gone")
    with pytest.raises(Unavailable):
        house.load("a")
    assert house.served.loading == {}
    assert house.shown == {"a"}
    house.triton.states["a"] = "READY"  # the new Triton loaded it again
    house.care.pause()
    house.care.tidy(house.triton)
    assert house.shown == {"a"}  # nothing is removed while Triton is not ready
    house.care.settle(house.triton)
    house.care.tidy(house.triton)
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
        house.care.pause()
        with pytest.raises(Unavailable):
            house.load("b")
        house.care.settle(house.triton)
        house.triton.gate.set()
        with pytest.raises(Unavailable, match="went away"):
            load.result(20)
    assert house.served.models == ()


def test_after_a_restart_models_that_did_not_come_back_are_loaded_no_longer(house: House) -> None:
    for name in ("a", "b", "c"):
        house.archive(name, ensemble=name == "a")
        house.load(name)
    house.triton.states["a@part"] = "READY"
    assert house.care.to_load() == ["a", "a@part", "b", "c"]
    house.care.pause()
    house.triton.states |= {"a@part": "UNAVAILABLE", "b": "READY"}
    del house.triton.states["c"]
    assert house.care.settle(house.triton) == ["a", "c"]
    assert house.served.models == ("b",)
    assert house.served.ready
    house.care.tidy(house.triton)
    assert house.shown == {"b"}


def _claim_and_die(file: Path, name: str) -> None:
    with changing(file) as served:
        served.loading[name] = claim()
        served.unloading[f"{name}2"] = claim()


def test_the_claims_of_a_process_that_died_are_void(house: House) -> None:
    house.archive("a")
    house.archive("a2")
    died = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(house.models.file, "a"))
    died.start()
    died.join(120)
    assert set(house.served.loading) == {"a"}
    house.load("a")
    house.load("a2")
    assert house.served.models == ("a", "a2")
    with changing(house.models.file) as served:
        served.loading["b"] = "1 1"
    house.care.tidy(house.triton)
    assert house.served.loading == {}
