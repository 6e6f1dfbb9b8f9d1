"""The section `peers`: the order of its points, one-line errors, and the check of scores."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from benchmarks.peers.launch import PEERS
from benchmarks.rig.points import Points
from benchmarks.serving.peers import LOAD, compare, load_keys, one_line, ranked_scores, start_keys


def test_a_run_goes_on_after_what_is_measured(tmp_path: Path) -> None:
    keys = load_keys(quick=True, rounds=2)
    assert len(keys) == sum(len(peer.asks) for peer in PEERS.values()) * 2 * 2
    points = Points(tmp_path, {})
    points.add(LOAD, keys[0], {"requests_per_s": 1.0})
    points.add(LOAD, keys[1], {}, error="no answer")
    assert Points(tmp_path, {}).missing(LOAD, keys) == keys[1:]  # what gave no answer is tried again


def test_starts_go_from_server_to_server() -> None:
    assert [key["peer"] for key in start_keys(2)] == ["serve", *PEERS] * 2


def test_an_error_is_one_line() -> None:
    error = click.ClickException("python ended with 1:\nTraceback:\nValueError: bad\nmore")
    assert one_line(error) == "python ended with 1: ValueError: bad"
    assert one_line(KeyError("scores")) == "KeyError: 'scores'"


def test_other_scores_are_refused() -> None:
    compare("x", [0.5, 1.0], [0.500001, 1.0])
    with pytest.raises(click.ClickException, match=r"other scores than the exported module, by up to 0\.5"):
        compare("x", [0.5], [1.0])
    with pytest.raises(click.ClickException, match="1 scores instead of 2"):
        compare("x", [0.5], [1.0, 2.0])


def test_a_ranking_has_the_right_score_at_each_item() -> None:
    best = {"a": 0.75, "b": 0.5, "c": 0.25}
    ranking = [{"item_id": "a", "score": 0.75}, {"item_id": "b", "score": 0.500001}]
    assert ranked_scores("x", ranking, best) == [0.75, 0.500001]
    with pytest.raises(click.ClickException, match=r"by up to 0\.25"):
        ranked_scores("x", [ranking[0], {"item_id": "c", "score": 0.5}], best)
    with pytest.raises(click.ClickException, match="x answers other scores than the exported module"):
        ranked_scores("x", [{"item_id": "seen", "score": 0.75}], best)
