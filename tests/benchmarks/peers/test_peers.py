"""The benchmark's peers: what is measured next, what is said of failures, and requirements that are pinned."""

from __future__ import annotations

import re
from pathlib import Path

import click
import orjson
import pytest

from benchmarks import ROOT
from benchmarks.peers.launch import PEERS, kserve_pairs, shown, telling
from benchmarks.rig.points import Points
from benchmarks.serving.peers import LOAD, compare, load_keys, one_line, start_keys


def test_requirements_are_pinned() -> None:
    files = sorted((ROOT / "benchmarks/peers").glob("*.txt"))
    assert {file.stem for file in files} | {"torchserve"} == {peer.name for peer in PEERS.values()}
    for file in files:
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", line) for line in lines), file.name


def test_a_run_goes_on_after_what_is_measured(tmp_path: Path) -> None:
    keys = load_keys(quick=True, rounds=2)
    assert len(keys) == len(PEERS) * 2 * 2 * 2
    points = Points(tmp_path, {})
    points.add(LOAD, keys[0], {"requests_per_s": 1.0})
    points.add(LOAD, keys[1], {}, error="no answer")
    assert Points(tmp_path, {}).missing(LOAD, keys) == keys[1:]  # what gave no answer is tried again


def test_starts_go_from_server_to_server() -> None:
    assert [key["peer"] for key in start_keys(2)] == ["serve", *PEERS] * 2


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "Collecting a\nERROR: Ignored the following versions\nERROR: No matching distribution found for a==9\n",
            "ERROR: No matching distribution found for a==9",
        ),
        (
            "started\nTraceback (most recent call last):\n  File 'x'\nRuntimeError: no event loop\nbye",
            "RuntimeError: no event loop",
        ),
        ("one\n\ntwo\n", "two"),
        ("", "its log is empty"),
    ],
)
def test_the_telling_line_of_a_log(log: str, line: str) -> None:
    assert telling(log) == line


def test_an_error_is_one_line() -> None:
    error = click.ClickException("python ended with 1:\nTraceback:\nValueError: bad\nmore")
    assert one_line(error) == "python ended with 1: ValueError: bad"
    assert one_line(KeyError("scores")) == "KeyError: 'scores'"


def test_other_scores_are_refused() -> None:
    compare("x", [0.5, 1.0], [0.500001, 1.0])
    with pytest.raises(click.ClickException, match=r"other scores than the exported module, by up to 0\.5"):
        compare("x", [0.5], [1.0])
    with pytest.raises(click.ClickException, match="1 scores to 2 pairs"):
        compare("x", [0.5], [1.0, 2.0])


def test_kserve_columns_hold_the_same_pairs() -> None:
    pairs = [{"user_id": "u1", "item_id": "a"}, {"user_id": "u2", "item_id": "b"}]
    inputs = orjson.loads(kserve_pairs(orjson.dumps({"pairs": pairs})))["inputs"]
    assert {each["name"]: each["data"] for each in inputs} == {"user_id": ["u1", "u2"], "item_id": ["a", "b"]}
    assert {tuple(each["shape"]) for each in inputs} == {(2, 1)}


def test_a_command_has_no_folder_of_this_machine() -> None:
    for peer in PEERS.values():
        assert str(ROOT) not in shown(peer)
        assert "{" not in shown(peer)
        assert "/tmp" not in shown(peer)
