"""The peers: pinned requirements, commands without paths of a machine, and the telling line of a log."""

from __future__ import annotations

import re

import orjson
import pytest

from benchmarks import ROOT
from benchmarks.peers.launch import PEERS, kserve_pairs, shown, telling


def test_requirements_are_pinned() -> None:
    files = sorted((ROOT / "benchmarks/peers").glob("*.txt"))
    assert {file.stem for file in files} | {"torchserve"} == {peer.name for peer in PEERS.values()}
    for file in files:
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", line) for line in lines), file.name


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
